"""The comparison of two checkouts at its smallest size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import versions

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("LITLAB_DATA_DIR", "data"))


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "MNIST").is_dir(), reason="needs the real MNIST")
def test_two_checkouts_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert versions.main([str(ROOT), str(ROOT), "--tasks", "SOFTMAX_2048", "--rounds", "1", "--epochs", "1"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| SOFTMAX_2048 |")]
    assert [row.split(" | ")[1] for row in rows] == list(versions.UNITS.values())

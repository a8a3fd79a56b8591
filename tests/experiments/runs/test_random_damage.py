"""Randomly damaged checkpoints never crash the process, print a traceback or give other values with exit code 0."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("number", "seed"), [(60, 1), *(pytest.param(250, seed, marks=pytest.mark.slow) for seed in (2, 3))]
)
def test_random_damage_is_found(number: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LITLAB_RUNS_DIR", "LITLAB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-m", "tests.experiments.runs.random_damage", str(number), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    faults = [line for line in done.stdout.splitlines() if not line.startswith("case ")]
    assert done.returncode == 0, "\n".join([*faults, done.stdout[-300:], done.stderr[-2000:]])

"""The crash benchmark at its smallest size."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import crash


@pytest.mark.slow
def test_runs_survive_two_kills(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert crash.main(["--kills", "2", "--signals", "0", "--saves", "0"]) == 0
    assert "2 of 2 equal" in capsys.readouterr().out

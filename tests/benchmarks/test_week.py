"""Many runs in one process leave no more behind than a few."""

from __future__ import annotations

import copy
import logging
import multiprocessing.util
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from benchmarks import week
from benchmarks.memory import megabytes
from tests.experiments.conftest import tiny_data, workshop  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.fixture
def work(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A working folder with a temporary folder of its own, empty."""
    (workshop / "tmp").mkdir()
    multiprocessing.util.get_temp_dir()  # before the patch: later tests use it too
    monkeypatch.setattr(tempfile, "tempdir", str(workshop / "tmp"))
    return workshop


def test_forty_runs_leave_nothing_alive_and_nothing_behind(work: Path) -> None:
    before, seen = week.handlers(), []
    alive = week.Alive.now(work / "runs", work / "tmp")  # with what other tests of this process hold
    first, settled, last = week.week(40, 40, lambda number, _: seen.append(number))
    assert seen == [20, 40]
    assert settled is first
    assert last.grown(first) == {}
    kept = set(last.grown(alive)) & {"trainers", "modules", "data", "figures", "children"}
    assert kept == set()
    assert last.tensors - alive.tensors <= 1
    assert last.rss - first.rss < 25, "MiB in 20 runs"
    assert week.handlers() == before
    assert week.strays(work / "runs", work / "tmp") == []
    # The two runs that a mistake ended before training, of each round of ten, have no folder.
    assert len(list((work / "runs/mlp_digits").iterdir())) == 36
    assert len(list((work / "runs").glob("*/*/figures"))) == 4, "the kind that draws did"


def test_what_stays_alive_and_what_is_left_behind_is_seen(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, temporary = work / "runs", work / "tmp"
    before = week.Alive.now(runs, temporary)
    run = week._fit()
    # More than what earlier tests of this process held and let go meanwhile.
    kept = [copy.deepcopy((run.model, run.data, torch.zeros(1))) for _ in range(50)]
    monkeypatch.setenv("LITLAB_STRAY", "1")
    (run.path / "checkpoints/best.ckpt.1.part").touch()
    (temporary / "forgotten").touch()
    with ExitStack() as files:
        for _ in kept:
            files.enter_context(open(os.devnull))
        grown = week.Alive.now(runs, temporary).grown(before)
    for name in ("tensors", "modules", "data", "open_files", "environment", "stray_files"):
        assert name in grown, name
    assert megabytes("VmRSS") > 100


@pytest.mark.parametrize(("growth", "code"), [(59.0, 0), (61.0, 1)])
def test_memory_that_grows_decides_the_exit_code(
    growth: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = iter([100.0, 100.0 + growth, 100.0 + growth])
    monkeypatch.setattr(week, "megabytes", lambda _: next(sizes))
    monkeypatch.setattr(week, "KINDS", (lambda: None,))
    before = outside()
    assert week.main(["--fits", "2", "--every", "2"]) == code
    assert ("memory grew" in capsys.readouterr().out) == bool(code)
    assert outside() == before


def test_a_few_runs_are_compared_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(week, "KINDS", (lambda: sys.path.append("more"),))
    assert week.main(["--fits", "3"]) == 1
    assert "python_path grew" in capsys.readouterr().out


def outside() -> tuple[object, ...]:
    """What the benchmark sets for its own time beside what a run does."""
    return os.environ.get("TMPDIR"), tempfile.tempdir, logging.root.manager.disable, os.getcwd()

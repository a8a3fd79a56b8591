"""Many runs in one process leak neither resources nor files."""

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
    """Return a working folder with its own empty temporary folder."""
    (workshop / "tmp").mkdir()
    multiprocessing.util.get_temp_dir()  # before the patch, because later tests use it too
    monkeypatch.setattr(tempfile, "tempdir", str(workshop / "tmp"))
    return workshop


def test_forty_runs_leak_neither_resources_nor_files(work: Path) -> None:
    before, seen = week.handlers(), []
    start = week.Resources.now(work / "runs", work / "tmp")  # includes the resources of other tests
    first, settled, last = week.train_many(40, 40, lambda number, _: seen.append(number))
    assert seen == [20, 40]
    assert settled is first
    assert last.grown(first) == {}
    leaked = set(last.grown(start)) & {"trainers", "modules", "data", "figures", "children"}
    assert leaked == set()
    assert last.tensors - start.tensors <= 1
    assert last.rss - first.rss < 25, "MiB in 20 runs"
    assert week.handlers() == before
    assert week.strays(work / "runs", work / "tmp") == []
    # In each cycle of ten runs, the user error ends one run before training, so it has no folder.
    assert len(list((work / "runs/mlp_digits").iterdir())) == 36
    assert len(list((work / "runs").glob("*/*/figures"))) == 4, "only the runs with figures have the folder"


def test_leaked_resources_and_stray_files_are_found(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, temporary = work / "runs", work / "tmp"
    before = week.Resources.now(runs, temporary)
    run = week._fit()
    # More than earlier tests held and released in the meantime.
    copies = [copy.deepcopy((run.model, run.data, torch.zeros(1))) for _ in range(50)]
    monkeypatch.setenv("LITLAB_STRAY", "1")
    (run.path / "checkpoints/best.ckpt.1.part").touch()
    (temporary / "forgotten").touch()
    with ExitStack() as files:
        for _ in copies:
            files.enter_context(open(os.devnull))
        grown = week.Resources.now(runs, temporary).grown(before)
    for name in ("tensors", "modules", "data", "open_files", "environment", "stray_files"):
        assert name in grown, name
    assert megabytes("VmRSS") > 100


@pytest.mark.parametrize(("growth", "code"), [(59.0, 0), (61.0, 1)])
def test_growing_memory_sets_the_exit_code(
    growth: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = iter([100.0, 100.0 + growth, 100.0 + growth])
    monkeypatch.setattr(week, "megabytes", lambda _: next(sizes))
    monkeypatch.setattr(week, "KINDS", (lambda: None,))
    before = process_state()
    assert week.main(["--fits", "2", "--every", "2"]) == code
    assert ("memory grew" in capsys.readouterr().out) == bool(code)
    assert process_state() == before


def test_a_few_runs_are_compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(week, "KINDS", (lambda: sys.path.append("more"),))
    assert week.main(["--fits", "3"]) == 1
    assert "python_path grew" in capsys.readouterr().out


def process_state() -> tuple[object, ...]:
    """Return the process-wide state that the benchmark changes and must restore."""
    return os.environ.get("TMPDIR"), tempfile.tempdir, logging.root.manager.disable, os.getcwd()

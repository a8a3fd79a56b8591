"""A disk that takes no checkpoint, no result or no output; checkpoints that vanish."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from callbacks.checkpoints.atomic_files import atomic_write
from experiments.runs import checkpoint_io, folder
from tests.experiments.conftest import Command

ROOT = Path(__file__).resolve().parents[3]
FIT = ("fit", "mlp_digits", "--data.train_fraction=0.2", "--model.hidden=[8]", "--trainer.max_epochs=3",
       "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")  # fmt: skip
RUN = Path("runs/mlp_digits/0")


def fill_disk(monkeypatch: pytest.MonkeyPatch, name: str, after: int = 0) -> None:
    """Let all writes of a file fail after the first `after`."""
    calls = []

    def write(path: str | Path) -> AbstractContextManager[BinaryIO]:
        if name in Path(path).name:
            calls.append(path)
        full = name in Path(path).name and len(calls) > after

        @contextmanager
        def failing() -> Iterator[BinaryIO]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            yield

        return failing() if full else atomic_write(path)

    monkeypatch.setattr(checkpoint_io, "atomic_write", write)
    monkeypatch.setattr(folder, "atomic_write", write)


@pytest.mark.parametrize("logger", ["true", "false"])
def test_no_checkpoint_at_all_is_a_failure(litlab: Command, monkeypatch: pytest.MonkeyPatch, logger: str) -> None:
    fill_disk(monkeypatch, ".ckpt")
    found = litlab(*FIT, "--test_after_fit=true", f"--trainer.logger={logger}")
    assert found.code == 1
    last = [line for line in found.err.splitlines() if "Training finished" in line][-1]
    assert "No space left on device" in last
    assert "the weights are lost" in last
    assert "The requested test was skipped." in last


def test_the_test_of_an_older_best_epoch_is_named(litlab: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch, ".ckpt", after=2)  # best.ckpt and last.ckpt of the first epoch
    found = litlab(*FIT, "--test_after_fit=true")
    assert found.code == 1
    last = [line for line in found.err.splitlines() if "Training finished" in line][-1]
    assert "last.ckpt could not be written" in last
    assert "best.ckpt is of epoch 1, and last.ckpt is of epoch 1." in last
    assert "litlab resume runs/mlp_digits/0" in last
    assert "test/acc" in found.out
    monkeypatch.undo()


def test_a_result_that_is_not_stored_is_a_failure(litlab: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        fill_disk(full, "results.json")
        found = litlab(*FIT)
    assert found.code == 1
    assert "results.json could not be written (No space left on device)" in found.err
    assert litlab("resume", str(RUN)).code == 0  # with space again, the result is stored
    assert "fit" in (RUN / "results.json").read_text()


def test_vanished_checkpoints_are_not_trained_anew(litlab: Command) -> None:
    assert litlab(*FIT).code == 0
    (RUN / "results.json").unlink()  # as if it had been killed
    shutil.rmtree(RUN / "checkpoints")
    metrics = (RUN / "metrics.csv").read_bytes()
    found = litlab("resume", str(RUN))
    assert found.code == 2
    assert "last.ckpt is missing although the run was trained" in found.sentence
    assert (RUN / "metrics.csv").read_bytes() == metrics


def test_a_run_that_was_killed_in_its_first_epoch_starts_again(litlab: Command) -> None:
    assert litlab(*FIT, "--trainer.max_epochs=1").code == 0
    (RUN / "results.json").unlink()
    shutil.rmtree(RUN / "checkpoints")
    found = litlab("resume", str(RUN))
    assert found.code == 0
    assert "from the start" in found.out


def test_checkpoints_that_are_removed_during_training_are_saved_again(litlab: Command, tmp_path: Path) -> None:
    (tmp_path / "removing.py").write_text(
        "import shutil\nfrom lightning.pytorch import Callback\n\n\nclass Remover(Callback):\n"
        "    def on_train_epoch_start(self, trainer, pl_module):\n        if trainer.current_epoch == 2:\n"
        "            shutil.rmtree('runs/mlp_digits/0/checkpoints')\n"
    )
    with pytest.warns(UserWarning, match=r"best\.ckpt was removed"):
        found = litlab(*FIT, "--test_after_fit=true", "--trainer.callbacks+=removing.Remover")
    assert found.code == 0, found.err
    assert "best.ckpt (epoch 3, step" in found.out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_stdout_costs_only_the_output(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LITLAB_RUNS_DIR": str(tmp_path)}
    with open("/dev/full", "w") as full:
        listing = subprocess.run(
            [sys.executable, "-m", "litlab", "list"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
        fit = subprocess.run(
            [sys.executable, "-m", "litlab", *FIT], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert (listing.returncode, "No space left" in listing.stderr) == (1, True)
    assert (fit.returncode, "No space left" in fit.stderr, "Traceback" in fit.stderr) == (0, True, False)
    assert (tmp_path / "mlp_digits" / "0" / "results.json").is_file()


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_closed_standard_streams_do_no_harm(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LITLAB_RUNS_DIR": str(tmp_path)}
    command = f"{sys.executable} -m litlab {' '.join(map(repr, FIT))} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], env=environment).returncode == 0
    run = tmp_path / "mlp_digits" / "0"
    assert (run / "results.json").is_file()
    assert all(b"epoch 1/3" not in path.read_bytes() for path in run.rglob("*") if path.is_file())

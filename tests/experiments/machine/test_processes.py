"""Concurrent runs, and several processes in one run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from experiments import load_run
from experiments.runs.folder import RunFolder
from tests.experiments.conftest import ROOT, Command


def test_concurrent_claims_get_different_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda i: RunFolder.claim(tmp_path, "x", {"config.yaml": str(i)}), range(64)))
    assert sorted(int(folder.path.name) for folder in folders) == list(range(64))
    assert sorted(int(folder.config.read_text()) for folder in folders) == list(range(64))
    assert len(list((tmp_path / "x").iterdir())) == 64, "no temporary folder is left"


@pytest.mark.slow
def test_two_concurrent_fits_get_two_folders(workshop: Path) -> None:
    words = [sys.executable, "-m", "experiments", "fit", "mlp_digits", "debug"]
    started = [subprocess.Popen(words, cwd=workshop, env=_environment(), stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(120) for process in started] == [0, 0]
    assert {path.name for path in (workshop / "runs/mlp_digits").iterdir()} == {"0", "1"}
    for number in "01":
        assert (workshop / "runs/mlp_digits" / number / "checkpoints/best.ckpt").is_file()


@pytest.mark.slow
def test_two_processes_share_one_run_and_score_like_one_process(workshop: Path, litlab: Command) -> None:
    words = [sys.executable, "-m", "experiments", "fit", "mlp_digits", "cpu_two_processes"]
    words += ["--trainer.max_epochs=2", "--test_after_fit=true"]
    done = subprocess.run(words, cwd=workshop, env=_environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (workshop / "runs/mlp_digits").iterdir()] == ["0"]
    assert done.stdout.count("Trained 2 epochs") == 1
    by_two = load_run("mlp_digits").results[-1]
    assert by_two["n"] == 360
    alone = litlab("test", "mlp_digits", "--trainer.devices=1", "--trainer.strategy=auto")
    assert alone.code == 0, alone.err
    by_one = load_run("mlp_digits").results[-1]
    assert by_one["metrics"]["test/acc"] == pytest.approx(by_two["metrics"]["test/acc"], abs=1e-9)
    assert by_one["metrics"]["test/loss"] == pytest.approx(by_two["metrics"]["test/loss"], rel=1e-6)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_sigterm_exits_with_code_143(workshop: Path) -> None:
    words = [sys.executable, "-m", "experiments", "fit", "--trainer.max_epochs=100000"]
    process = subprocess.Popen(words, cwd=workshop, env=_environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    deadline = time.monotonic() + 120
    while not process.stdout.readline().startswith("epoch 2/"):
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


@pytest.mark.slow
def test_sigterm_to_two_processes_saves_a_checkpoint_to_resume_from(workshop: Path) -> None:
    words = ["fit", "mlp_digits", "cpu_two_processes", "--trainer.max_epochs=6", "--model.dropout=0.2"]
    command, environment = [sys.executable, "-m", "experiments"], {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [*command, *words], cwd=workshop, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert child.stdout is not None
    printed = ""
    with child.stdout:
        for line in child.stdout:
            printed += line
            if line.startswith("epoch 2/"):
                os.killpg(child.pid, signal.SIGTERM)
    assert child.wait(30) == 143, printed
    assert printed.count("Everything is saved.") == 1, printed
    resume = [*command, "resume", "mlp_digits"]
    done = subprocess.run(resume, cwd=workshop, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = subprocess.run([*command, *words], cwd=workshop, env=environment, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    runs = [workshop / f"runs/mlp_digits/{number}/checkpoints/last.ckpt" for number in (0, 1)]
    one, other = (torch.load(run, weights_only=True)["state_dict"] for run in runs)
    assert all(torch.equal(value, other[name]) for name, value in one.items())

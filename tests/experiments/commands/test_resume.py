"""`litlab resume`: after Ctrl-C, SIGTERM and kill -9; what it refuses, what it takes over."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments import load_run
from experiments.runs.folder import RunFolder
from tests.experiments.conftest import ROOT, Command

STOP = """
import os, signal
from lightning.pytorch import Callback

class Stop(Callback):
    def __init__(self, step: int, number: int = 2, times: int = 1, batch: bool = True):
        self.step, self.number, self.times, self.batch = step, number, times, batch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if self.batch and trainer.global_step == self.step and not os.path.exists("stopped"):
            open("stopped", "w").close()
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)

    def on_validation_start(self, trainer, module):
        if not self.batch and not trainer.sanity_checking and trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)
"""
SMALL = ("--trainer.max_epochs=3", "--data.batch_size=128", "--model.dropout=0.2", "--trainer.log_every_n_steps=2")
RUN = Path("runs/mlp_digits/0")


def stopping(step: int, number: int = signal.SIGINT, **more: object) -> list[str]:
    settings = json.dumps({"step": step, "number": int(number), **more})
    return [f'--trainer.callbacks+={{"class_path": "stop.Stop", "init_args": {settings}}}']


@pytest.fixture
def stopper(workshop: Path) -> Path:
    (workshop / "stop.py").write_text(STOP)
    return workshop


def state(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return found


def equal(one: Path, other: Path) -> bool:
    return all(torch.equal(value, state(other)[name]) for name, value in state(one).items())


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)])
def test_a_signal_saves_the_step_and_the_run_goes_on_from_it(
    litlab: Command, stopper: Path, number: int, code: int
) -> None:
    result = litlab("fit", "mlp_digits", *SMALL, *stopping(13, number))
    assert result.code == code
    assert "at optimizer step 13 (epoch 2). Everything is saved." in result.sentence
    assert "resume  litlab resume runs/mlp_digits/0" in result.err
    assert torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 13
    again = litlab("resume", "mlp_digits")
    assert again.code == 0, again.err
    assert f"run     {RUN}, from step 13 (epoch 2)" in again.out
    assert litlab("fit", "mlp_digits", *SMALL).code == 0
    assert equal(RUN, Path("runs/mlp_digits/1"))
    assert rows(RUN) == rows(Path("runs/mlp_digits/1"))
    assert not list(Path("runs/mlp_digits").glob("2*")), "no folder of its own"


def test_a_signal_in_the_validation_ends_the_run_after_it(litlab: Command, stopper: Path) -> None:
    result = litlab("fit", "mlp_digits", *SMALL, *stopping(9, signal.SIGTERM, batch=False))
    assert result.code == 143
    assert "step 9 (epoch 1). Everything is saved." in result.sentence
    assert litlab("resume", "mlp_digits").code == 0
    assert litlab("fit", "mlp_digits", *SMALL).code == 0
    assert equal(RUN, Path("runs/mlp_digits/1"))


def test_a_second_ctrl_c_leaves_at_once(litlab: Command, stopper: Path) -> None:
    result = litlab("fit", "mlp_digits", *SMALL, *stopping(13, signal.SIGINT, times=2))
    assert result.code == 130
    assert "Everything is saved" not in result.err
    assert torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 9, "that of the epoch's end"


def test_handlers_are_put_back(litlab: Command, stopper: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    litlab("fit", "mlp_digits", *SMALL, *stopping(13, signal.SIGTERM))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before


def test_the_curves_have_neither_fold_nor_gap(litlab: Command, stopper: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL, *stopping(13), "--trainer.callbacks+=Weights").code == 130
    time.sleep(1.1)  # event files are read in the order of the second they were begun in
    assert litlab("resume", "mlp_digits").code == 0
    found = EventAccumulator(str(RUN), size_guidance={"scalars": 0})
    found.Reload()
    for tag in ("train/loss_step", "train/loss", "val/loss"):
        steps = [event.step for event in found.Scalars(tag)]
        assert steps == sorted(set(steps)), tag
        assert len({later - earlier for earlier, later in pairwise(steps)}) == 1, tag
    assert [int(row["step"]) for row in rows(RUN)] == sorted({int(row["step"]) for row in rows(RUN)})


def test_a_run_without_a_checkpoint_starts_again_in_its_own_folder(litlab: Command, stopper: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL, *stopping(5)).code == 130
    (RUN / "checkpoints/last.ckpt").unlink()
    result = litlab("resume", "mlp_digits")
    assert result.code == 0, result.err
    assert "from the start: the run has no checkpoint yet" in result.out
    assert litlab("fit", "mlp_digits", *SMALL).code == 0
    assert equal(RUN, Path("runs/mlp_digits/1"))
    assert rows(RUN) == rows(Path("runs/mlp_digits/1"))


def test_a_finished_run_has_nothing_to_do(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL).code == 0
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    result = litlab("resume", "mlp_digits")
    assert result.code == 0, result.err
    assert "is finished" in result.out
    assert {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()} == before


REFUSED = [
    ("--model.hidden=[32]", "checkpoint: ", "128x64"),
    ("--model.dropout=0.1", "model.dropout was 0.2 and is now 0.1", "Remove it"),
    ("--data.batch_size=64", "data.batch_size was 128 and is now 64", "Remove it"),
    ("--data.val_split=0.3", "data.val_split was 0.2 and is now 0.3", "Remove it"),
    ("--seed_everything=7", "seed_everything was 42 and is now 7", "Remove it"),
    ("--trainer.precision=64-true", "trainer.precision was null and is now", "Remove it"),
    ("--trainer.max_epochs=5", "schedule ends with the run", "--extend_schedule hold"),
    ("--model.optimizer.lr=0.5", "optimizer.lr cannot change while a learning rate schedule", "Remove the option"),
    ("--extend_schedule=stretch", "needs a longer run", "--trainer.max_epochs"),
    ("--extend_schedule=strech", "extend_schedule must be hold or stretch", "got 'strech'. Did you mean stretch?"),
    ("--ckpt_path=best", "from its newest checkpoint", "--ckpt_path FILE"),
    ("--trainer.max_epoch=5", "Did you mean --trainer.max_epochs", ""),
]


def test_what_contradicts_the_run_is_refused_with_both_values(litlab: Command, stopper: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL, *stopping(13)).code == 130
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    for word, problem, remedy in REFUSED:
        result = litlab("resume", "mlp_digits", word)
        assert result.code == 2, word
        assert problem in result.sentence, result.sentence
        assert remedy in result.sentence, result.sentence
        assert {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()} == before, word
    assert litlab("resume", "mlp_digits").code == 0


def test_a_longer_run_without_a_schedule_equals_one_that_was_long_from_the_start(
    litlab: Command, workshop: Path
) -> None:
    plain = ("--model.scheduler=null", *SMALL[1:])
    assert litlab("fit", "mlp_digits", *plain, "--trainer.max_epochs=2").code == 0
    result = litlab("resume", "mlp_digits", "--trainer.max_epochs=4", "--patience=50")
    assert result.code == 0, result.err
    assert "from step 18 (epoch 2), patience null -> 50; trainer.max_epochs 2 -> 4" in result.out
    assert litlab("fit", "mlp_digits", *plain, "--trainer.max_epochs=4").code == 0
    assert equal(RUN, Path("runs/mlp_digits/1"))
    record = json.loads((RUN / "environment.json").read_text())["resumed"]
    assert record[0]["changed"]["trainer.max_epochs"] == [2, 4]
    assert "max_epochs: 4" in (RUN / "config.yaml").read_text()
    assert litlab("resume", "mlp_digits", "--trainer.max_epochs=3").code == 2, "fewer than it has"


@pytest.mark.parametrize("word", ["hold", "stretch"])
def test_a_schedule_is_extended_as_the_user_says(litlab: Command, workshop: Path, word: str) -> None:
    words = (*SMALL[1:], "--trainer.max_epochs=2", "--model.scheduler=cosine", "--model.scheduler.eta_min=0.0001")
    assert litlab("fit", "mlp_digits", *words).code == 0
    result = litlab("resume", "mlp_digits", "--trainer.max_epochs=4", f"--extend_schedule={word}")
    assert result.code == 0, result.err
    (optimizer,) = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["optimizer_states"]
    rates = [group["lr"] for group in optimizer["param_groups"]]
    assert rates == pytest.approx([0.0001], rel=1e-6), "at its end in both"
    logged = {int(row["step"]): float(row["lr-Adam"]) for row in rows(RUN) if row.get("lr-Adam")}
    later = [rate for step, rate in logged.items() if step >= 20]
    if word == "stretch":
        assert max(later) > 0.0002
    else:
        assert all(rate == pytest.approx(0.0001) for rate in later)


def test_another_rate_and_patience_are_honoured(litlab: Command, stopper: Path) -> None:
    plain = ("--model.scheduler=null", *SMALL)
    assert litlab("fit", "mlp_digits", *plain, "--patience=1", *stopping(13)).code == 130
    result = litlab("resume", "mlp_digits", "--model.optimizer.lr=0.0", "--patience=2", "--trainer.max_epochs=9")
    assert result.code == 0, result.err
    content = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)
    assert content["optimizer_states"][0]["param_groups"][0]["lr"] == 0.0
    assert content["epoch"] == 3, "with a rate of 0 nothing gets better: two validations more than the second"


def test_other_data_is_refused(litlab: Command, workshop: Path) -> None:
    (workshop / "stop.py").write_text(STOP)
    (workshop / "text.txt").write_text("one two three four five six seven " * 60)
    words = ("--data.path=text.txt", "--trainer.max_epochs=2", "--data.batch_size=4", "--data.sequence_length=16")
    first = litlab("fit", "lstm_text", *words, *stopping(3))
    assert first.code == 130, first.err
    (workshop / "text.txt").write_text("one two three four five seven six " * 60)
    result = litlab("resume", "lstm_text")
    assert result.code == 2
    assert "resume: the training data changed since the run started" in result.sentence


def test_from_python(litlab: Command, stopper: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL, *stopping(13), "--model.scheduler=null").code == 130
    run = load_run("mlp_digits").resume(**{"trainer.max_epochs": 4})
    assert run.metrics[-1]["epoch"] == 3
    assert litlab("fit", "mlp_digits", *SMALL[1:], "--trainer.max_epochs=4", "--model.scheduler=null").code == 0
    assert equal(RUN, Path("runs/mlp_digits/1"))


def test_a_moved_run_keeps_its_best(litlab: Command, stopper: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL, *stopping(20)).code == 130
    shutil.copytree(RUN, "elsewhere")
    assert litlab("resume", "elsewhere").code == 0
    assert litlab("resume", "mlp_digits").code == 0
    both = [torch.load(run / "checkpoints/best.ckpt", weights_only=True) for run in (RUN, Path("elsewhere"))]
    assert both[0]["epoch"] == both[1]["epoch"]
    assert litlab("test", "elsewhere").code == 0


def test_a_run_that_is_being_trained_is_left_alone(litlab: Command, stopper: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL, *stopping(13)).code == 130
    with RunFolder(RUN.resolve()).locked():
        result = litlab("resume", "mlp_digits")
    assert result.code == 2
    assert "is being trained by another process" in result.sentence
    assert litlab("resume", "mlp_digits").code == 0


def test_a_run_that_is_not_there(litlab: Command, workshop: Path) -> None:
    assert litlab("resume").code == 2
    assert "needs a run" in litlab("resume").sentence
    assert "neither a run folder" in litlab("resume", "nothing").sentence
    assert "litlab resume RUN" in litlab("resume", "--help").out


def test_a_damaged_checkpoint_is_told(litlab: Command, stopper: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL, *stopping(13)).code == 130
    last = RUN / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:3000])
    result = litlab("resume", "mlp_digits")
    assert result.code == 2
    assert "last.ckpt cannot be loaded: it is corrupted" in result.sentence


@pytest.mark.slow
def test_after_kill_9_the_run_goes_on_from_what_was_saved(workshop: Path) -> None:
    command = [sys.executable, "-m", "experiments"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = ["fit", "mlp_digits", "--trainer.max_epochs=30", "--model.dropout=0.2", "--save_every_steps=7"]
    child = subprocess.Popen([*command, *words], cwd=workshop, env=environment, stdout=subprocess.DEVNULL)
    last = workshop / RUN / "checkpoints/last.ckpt"
    while child.poll() is None and not last.is_file():
        time.sleep(0.01)
    time.sleep(0.4)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    stopped = torch.load(last, weights_only=True)["global_step"]
    done = subprocess.run(
        [*command, "resume", "mlp_digits"], cwd=workshop, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"from step {stopped:,} " in done.stdout
    whole = subprocess.run([*command, *words], cwd=workshop, env=environment, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    assert equal(workshop / RUN, workshop / "runs/mlp_digits/1")

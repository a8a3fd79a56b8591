"""Where a run begins: from a checkpoint, from nothing, and never over what was trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from experiments import load_run
from tests.experiments.conftest import Command

SMALL = ("--data.train_fraction=0.2", "--threads=1", "--trainer.enable_progress_bar=false")
FLAT = ("--model.scheduler=null", "--experiment=flat")
BEST = "runs/flat/0/checkpoints/best.ckpt"


@pytest.fixture
def flat(litlab: Command, workshop: Path) -> Path:
    """A run of one epoch without a schedule, at the rate 0.003 of adam."""
    assert litlab("fit", "mlp_digits", *SMALL, *FLAT, "--trainer.max_epochs=1").code == 0
    return workshop / "runs/flat/0"


def test_another_rate_holds_from_the_checkpoint_on(litlab: Command, flat: Path) -> None:
    start = (f"--ckpt_path={BEST}", "--trainer.max_epochs=2", "--experiment=next")
    result = litlab("fit", "mlp_digits", *SMALL, "--model.scheduler=null", *start, "--model.optimizer.lr=0.5")
    assert result.code == 0, result.err
    state = torch.load("runs/next/0/checkpoints/last.ckpt", weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == 0.5
    assert state["epoch"] == 1, "it went on after the first epoch"


@pytest.mark.parametrize("name", ["adam", "Adam", "torch.optim.Adam"])
def test_the_same_optimizer_by_another_name_goes_on(litlab: Command, flat: Path, name: str) -> None:
    words = ("--model.scheduler=null", f"--model.optimizer={name}", "--model.optimizer.lr=0.003")
    result = litlab("fit", "mlp_digits", *SMALL, *words, f"--ckpt_path={BEST}", "--trainer.fast_dev_run=1")
    assert result.code == 0, result.err


def test_a_schedule_cannot_be_exchanged_on_the_way(litlab: Command, flat: Path) -> None:
    result = litlab("fit", "mlp_digits", *SMALL, f"--ckpt_path={BEST}", "--model.scheduler=cosine")
    assert result.code == 2
    assert "in the middle of the schedule None, and model.scheduler is cosine" in result.sentence


@pytest.mark.parametrize(
    "words", [["fit", "--ckpt_path="], ["fit", "--ckpt_path", ""], ["test", "flat", "--ckpt_path="]]
)
def test_an_empty_checkpoint_is_no_word_for_none(litlab: Command, flat: Path, words: list[str]) -> None:
    result = litlab(*words)
    assert (result.code, "--ckpt_path needs a value" in result.sentence) == (2, True)


def test_resume_never_trains_over_a_run_whose_last_state_is_gone(litlab: Command, flat: Path) -> None:
    (flat / "checkpoints/last.ckpt").unlink()
    before = (flat / "checkpoints/best.ckpt").read_bytes()
    result = litlab("resume", "flat", "--trainer.max_epochs=2")
    assert result.code == 2
    assert "last.ckpt is missing although the run was trained" in result.sentence
    assert "--ckpt_path runs/flat/0/checkpoints/best.ckpt" in result.sentence
    assert (flat / "checkpoints/best.ckpt").read_bytes() == before
    (flat / "checkpoints/last.ckpt").mkdir()
    assert "last.ckpt is not a file" in litlab("resume", "flat").sentence


def test_a_run_killed_before_its_first_save_begins_where_it_was_started(litlab: Command, flat: Path) -> None:
    words = ("fit", "mlp_digits", *SMALL, "--model.scheduler=null", f"--ckpt_path={BEST}", "--trainer.max_epochs=2")
    assert litlab(*words, "--experiment=killed").code == 0
    whole = load_run("killed").load("last").state_dict()
    folder = Path("runs/killed/0")
    shutil.rmtree(folder / "checkpoints")  # as a kill in the first epoch leaves it
    (folder / "results.json").unlink()
    result = litlab("resume", "killed")
    assert result.code == 0, result.err
    again = load_run("killed").load("last").state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())
    shutil.rmtree(folder / "checkpoints")
    (folder / "results.json").unlink()
    Path(BEST).write_bytes(b"another")
    assert "best.ckpt, which has changed since. Put it back." in litlab("resume", "killed").sentence


@pytest.mark.filterwarnings("ignore:SWA is currently", "ignore:Swapping scheduler")
def test_a_device_among_a_callbacks_defaults_is_left_to_them(litlab: Command, workshop: Path) -> None:
    swa = ("--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.01")
    assert litlab("fit", "mlp_digits", *SMALL, *swa, "--trainer.max_epochs=1", "--experiment=swa").code == 0
    assert "Unable to serialize" not in Path("runs/swa/0/config.yaml").read_text()
    assert litlab("rerun", "swa", "--trainer.fast_dev_run=1").code == 0

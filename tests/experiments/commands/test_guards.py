"""What goes wrong while training costs a sentence: NaN, full disks, deleted folders, lack of memory, odd clocks."""

from __future__ import annotations

import itertools
import resource
import time
from pathlib import Path

import pytest
import torch
import yaml

from experiments import load_run
from experiments.messages.out_of_memory import advice, find_out_of_memory
from tests.experiments.conftest import Command

DAMAGE = """
import json
import shutil
from pathlib import Path
import torch
from datamodules import DigitsDataModule
from lightning.pytorch import Callback
from lit_models import LitMLP


class Poisoned(LitMLP):
    "Its inputs are NaN in some optimizer steps, counted from 0."
    def __init__(self, at: list[int], **rest):
        super().__init__(**rest)
        self.at = at
        self.save_hyperparameters()
    def training_step(self, batch, index):
        inputs, targets = batch
        wrong = self.trainer.global_step in self.at
        return super().training_step((inputs * float("nan") if wrong else inputs, targets), index)


class HoledDigits(DigitsDataModule):
    "Sample 100 of the training files holds NaN."
    def load_part(self, part):
        inputs, targets = super().load_part(part)
        inputs = inputs.float()
        if part == "train":
            inputs[100, 0, 0, 0] = float("nan")
        return inputs, targets


class Deletes(Callback):
    "Deletes the run folder after the first epoch."
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            while Path(trainer.default_root_dir).exists():  # TensorBoard may write while it goes
                shutil.rmtree(trainer.default_root_dir, ignore_errors=True)


class Replaced(Callback):
    "Another run takes the folder's place after the first epoch, and has not trained yet."
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            folder = Path(trainer.default_root_dir)
            record = json.loads((folder / "environment.json").read_text())
            while folder.exists():
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "environment.json").write_text(json.dumps({**record, "seed": 7}))
            (folder / "config.yaml").write_text("another's")


class Hungry(LitMLP):
    "Wants more memory than there is, in its first step."
    def training_step(self, batch, index):
        torch.empty(10**15)
"""
SHORT = ("--trainer.max_epochs=3", "--threads=1")


@pytest.fixture
def damage(workshop: Path) -> Path:
    """The working folder with models and data that break."""
    (workshop / "damage.py").write_text(DAMAGE)
    return workshop


def test_nan_names_step_and_samples_and_spares_the_checkpoint(damage: Path, litlab: Command) -> None:
    result = litlab("fit", "mlp_digits", *SHORT, "--model=damage.Poisoned", "--model.at=[50]", "--save_every_steps=5")
    assert result.code == 1
    (said,) = (line for line in result.err.splitlines() if line.startswith("litlab: The training loss"))
    assert "NaN at optimizer step 51 (epoch 2). Its batch was samples " in said
    assert " and 20 more of the training data" in said
    last = damage / "runs/mlp_digits/0/checkpoints/last.ckpt"
    kept = torch.load(last, weights_only=True)
    assert (
        f"The last good checkpoint is runs/mlp_digits/0/checkpoints/last.ckpt (optimizer step {kept['global_step']})"
        in said
    )
    assert 46 <= kept["global_step"] <= 50
    assert all(torch.isfinite(value).all() for value in kept["state_dict"].values())
    with pytest.warns(UserWarning, match="Skipped optimizer step 51:"):
        assert litlab("resume", "mlp_digits", "--not_finite=skip").code == 0


def test_nan_in_the_data_is_found_there(damage: Path, litlab: Command) -> None:
    result = litlab("fit", "mlp_digits", *SHORT, "--data=damage.HoledDigits", "--data.val_split=0.1")
    assert result.code == 1
    assert "The training data contains NaN or infinite values in sample 100." in result.err


def test_a_skipped_step_changes_nothing(damage: Path, litlab: Command) -> None:
    model = (
        "--model=damage.Poisoned",
        "--model.batch_norm=true",
        "--model.optimizer=momentum",
        "--model.scheduler=null",
    )
    one = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=4", "--threads=1", "--not_finite=skip")
    with pytest.warns(UserWarning, match="Skipped optimizer step 4:"):
        result = litlab("fit", "mlp_digits", *one, *model, "--model.at=[3]")
    assert result.code == 0, result.err
    assert "Skipped 1 optimizer step with NaN or infinite gradients." in result.out
    assert litlab("fit", "mlp_digits", *one, *model, "--model.at=[]", "--trainer.limit_train_batches=3").code == 0
    skipped, without = (torch.load(f"runs/mlp_digits/{n}/checkpoints/last.ckpt", weights_only=True) for n in (0, 1))
    for name, weight in without["state_dict"].items():
        assert torch.equal(weight, skipped["state_dict"][name]), name
    momenta = [state["optimizer_states"][0]["state"][0]["momentum_buffer"] for state in (skipped, without)]
    assert torch.equal(*momenta)
    losses = [
        [row["train/loss"] for row in load_run(f"runs/mlp_digits/{n}").metrics if "train/loss" in row] for n in (0, 1)
    ]
    assert losses[0] == losses[1]


def test_ten_skipped_steps_in_a_row_end_the_run(damage: Path, litlab: Command) -> None:
    at = f"--model.at={list(range(5, 30))}"
    with pytest.warns(UserWarning, match="optimizer step"):
        result = litlab("fit", "mlp_digits", *SHORT, "--model=damage.Poisoned", at, "--not_finite=skip")
    assert result.code == 1
    assert "gradients of the last 10 steps were NaN or infinite, up to optimizer step 15" in result.err


@pytest.mark.parametrize("words", [("--model.optimizer=lbfgs",), ("--steps_per_call=4",)])
def test_skipping_is_refused_where_it_cannot_be(litlab: Command, workshop: Path, words: tuple[str, ...]) -> None:
    result = litlab("fit", "mlp_digits", "--not_finite=skip", "--trainer.max_epochs=1", *words)
    assert (result.code, "not_finite: skip does not support" in result.sentence) == (2, True)
    assert not (workshop / "runs").exists()


def test_a_full_disk_costs_lines_not_the_training(litlab: Command, workshop: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))  # no file may grow beyond that
    try:
        result = litlab("fit", "mlp_digits", *SHORT, "--trainer.log_every_n_steps=1", "--trainer.callbacks+=Weights")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.code == 1, result.err  # the weights are lost
    assert "Traceback" not in result.err
    assert "epoch 3/3" in result.out
    assert "last.ckpt could not be written (File too large); there is none yet" in result.err
    assert result.err.count("TensorBoard's events in runs/mlp_digits/0 could not be written (File too large)") == 1


@pytest.mark.parametrize("words", [(), ("--trainer.logger=false",), ("--trainer.enable_checkpointing=false",)])
def test_deleting_the_folder_ends_the_run(damage: Path, litlab: Command, words: tuple[str, ...]) -> None:
    result = litlab("fit", "mlp_digits", *SHORT, "--trainer.callbacks+=damage.Deletes", *words)
    assert result.code == 1, result.err
    assert result.sentence == (
        "litlab: runs/mlp_digits/0 was deleted while its run was training. Training has stopped; start the run again."
    )
    assert not (damage / "runs/mlp_digits/0").exists()


def test_a_folder_deleted_in_the_last_epoch_is_noticed(damage: Path, litlab: Command) -> None:
    words = ("--trainer.max_epochs=2", "--trainer.logger=false", "--trainer.enable_checkpointing=false")
    result = litlab("fit", "mlp_digits", *words, "--trainer.callbacks+=damage.Deletes")
    assert (result.code, "was deleted while its run was training" in result.sentence) == (1, True)


def test_a_folder_that_is_another_runs_by_now_is_left_alone(damage: Path, litlab: Command) -> None:
    result = litlab("fit", "mlp_digits", *SHORT, "--trainer.callbacks+=damage.Replaced", "--trainer.logger=false")
    assert result.code == 1
    assert "another run has its name now" in result.err
    assert "the files written until then" not in result.err
    assert (damage / "runs/mlp_digits/0/config.yaml").read_text() == "another's"
    assert not list((damage / "runs/mlp_digits/0").glob("checkpoints/*.ckpt"))


def test_lack_of_memory_says_what_needs_less(damage: Path, litlab: Command) -> None:
    result = litlab("fit", "mlp_digits", *SHORT, "--model=damage.Hungry")
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "main memory is too small for 32 samples at a time" in result.err
    assert "set --trainer.accumulate_grad_batches 2 to keep 32 samples per optimizer step, or " in result.err
    assert "or --data.batch_size 16." in result.err
    result = litlab("fit", "mlp_digits", "--model.hidden=[2000000,2000000]")
    assert (result.code, result.sentence) == (
        1, "litlab: main memory is too small for this model. Use a smaller model."
    )  # fmt: skip


def test_a_gpus_lack_of_memory_is_known() -> None:
    lack = torch.OutOfMemoryError("CUDA out of memory.")
    wrapped = RuntimeError("while stepping")
    wrapped.__cause__ = lack
    assert find_out_of_memory(wrapped) is lack
    assert find_out_of_memory(RuntimeError("something else about memory")) is None
    assert advice(lack, None, None) == "GPU memory is too small for this model. Use a smaller model."


def test_a_clock_that_goes_backwards_harms_nothing(
    litlab: Command, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(time, "time", lambda: 1e9 - 60 * next(ticks))
    result = litlab("fit", "mlp_digits", *SHORT, "--save_every_minutes=0.001")
    assert result.code == 0, result.err
    for run in ("0", "1"):
        assert (workshop / "runs/mlp_digits" / run / "checkpoints/last.ckpt").is_file() == (run == "0")
    assert litlab("fit", "mlp_digits", *SHORT).code == 0
    assert load_run("mlp_digits").path.name == "1", "the newest run is that of the highest number"
    config = yaml.safe_load((workshop / "runs/mlp_digits/1/config.yaml").read_text())
    assert config["not_finite"] == "stop"

"""A run that resumes from any checkpoint ends with the same weights as an uninterrupted run."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import Tensor

from callbacks import ExactState, LastCheckpoint
from datamodules import DigitsDataModule
from lit_models import LitMLP

STEP_LR = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1, "gamma": 0.5}}
PLATEAU = {"name": "plateau", "patience": 0, "factor": 0.5, "threshold": 0.9}


class CopiedCheckpoints(LastCheckpoint):
    """Saves last.ckpt as often as possible and copies each file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(every_n_steps=1)
        self.folder, self.places = folder, list[tuple[str, int]]()

    def save(self, trainer: Trainer) -> bool:
        saved = super().save(trainer)
        shutil.copy(self.path, self.folder / f"{len(self.places)}.ckpt")
        self.places.append(("step" if self._by_steps or not trainer.is_last_batch else "epoch", trainer.global_step))
        return saved


class Epochs(Callback):
    """Collects the training metrics at the end of each epoch, by optimizer step."""

    def __init__(self) -> None:
        self.found: dict[int, dict[str, float]] = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.collect(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.collect(trainer)

    def collect(self, trainer: Trainer) -> None:
        logged = trainer.callback_metrics
        if "train/loss" in logged:
            names = ("train/loss", "train/acc", "train/f1", "train/auroc")
            self.found[trainer.global_step] = {name: float(logged[name]) for name in names}


def fit(
    folder: Path,
    scheduler: Any = None,
    ckpt_path: Path | None = None,
    exact: bool = True,
    batch: int = 100,
    **options: Any,
) -> tuple[Tensor, Epochs, CopiedCheckpoints]:
    seed_everything(1, verbose=False)
    data = DigitsDataModule(batch_size=batch, val_split=300, train_fraction=0.35)  # four batches per epoch
    model = LitMLP(
        input_shape=(1, 8, 8), num_classes=10, hidden=[16], dropout=0.3, batch_norm=True, scheduler=scheduler,
        optimizer={"name": "adam", "lr": 0.01}, metrics=["acc", "f1", "auroc"],
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    epochs, kept = Epochs(), CopiedCheckpoints(folder)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        callbacks=[*([ExactState()] if exact else []), epochs, kept],
        **{"max_epochs": 3, "num_sanity_val_steps": 0, **options},
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*|.*number of training batches.*")
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return torch.cat([weight.detach().flatten() for weight in model.state_dict().values()]), epochs, kept


CASES: list[tuple[Any, dict[str, Any]]] = [
    (None, {}),
    (None, {"val_check_interval": 0.5}),
    (None, {"check_val_every_n_epoch": 2}),
    (None, {"accumulate_grad_batches": 3, "batch": 99}),
    (None, {"max_steps": 10, "max_epochs": -1}),
    (None, {"limit_train_batches": 3, "limit_val_batches": 0}),
    ("onecycle", {}),
    ("onecycle", {"max_steps": 10, "max_epochs": -1}),
    (STEP_LR, {}),
    (STEP_LR, {"accumulate_grad_batches": 2}),
    (PLATEAU, {}),
    (PLATEAU, {"val_check_interval": 0.5}),
]


@pytest.mark.parametrize(("scheduler", "options"), CASES, ids=str)
def test_resuming_from_every_checkpoint_ends_with_the_same_weights(
    scheduler: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    whole, epochs, kept = fit(tmp_path / "whole", scheduler, **options)
    last = max(step for _, step in kept.places)
    assert len(kept.places) >= 3
    for index, (where, step) in enumerate(kept.places):
        if step == last:
            continue  # nothing left to train
        again, figures, _ = fit(tmp_path / "again", scheduler, tmp_path / "whole" / f"{index}.ckpt", **options)
        assert torch.equal(again, whole), (where, step)
        expected = {at: found for at, found in epochs.found.items() if at > step}
        assert {at: found for at, found in figures.found.items() if at > step} == expected, (where, step)


def test_without_random_states_the_weights_differ(tmp_path: Path) -> None:
    whole, _, kept = fit(tmp_path / "whole")
    index = kept.places.index(("step", 2))
    without, _, _ = fit(tmp_path / "again", None, tmp_path / "whole" / f"{index}.ckpt", exact=False)
    assert not torch.equal(without, whole)


def test_without_the_position_in_the_data_the_weights_differ(tmp_path: Path) -> None:
    whole, _, kept = fit(tmp_path / "whole")
    path = tmp_path / "whole" / f"{kept.places.index(('step', 2))}.ckpt"
    content = torch.load(path, weights_only=True)
    content["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]["batch"] = 0
    torch.save(content, path)
    without, _, _ = fit(tmp_path / "again", None, path)
    assert not torch.equal(without, whole)


def test_nothing_is_saved_between_accumulated_gradients_or_before_a_validation(tmp_path: Path) -> None:
    _, _, kept = fit(tmp_path / "gathered", accumulate_grad_batches=3, batch=99)
    assert kept.places[:5] == [("step", 1), ("step", 2), ("step", 3), ("step", 4), ("epoch", 5)]
    _, _, kept = fit(tmp_path / "validated", val_check_interval=0.5)
    assert [place for place in kept.places if place[1] <= 4] == [("step", 1), ("step", 3), ("epoch", 4)]

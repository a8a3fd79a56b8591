"""Trainer options that would fail late, give nonsense, or be ignored: refused before anything is made."""

from __future__ import annotations

import io
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import LitDataModule
from experiments.machine.launchers import launched

_AT_LEAST_ONE = ("accumulate_grad_batches", "check_val_every_n_epoch", "num_nodes", "log_every_n_steps")


def check_trainer(options: dict[str, Any]) -> None:
    """Refuse options by name; `options` are the Trainer's arguments as given."""
    for name in _AT_LEAST_ONE:
        value = options.get(name)
        if isinstance(value, int) and value < (0 if name == "log_every_n_steps" else 1):
            raise MisconfigurationException(f"trainer.{name}: {value} is not possible; give 1 or more.")
    interval = options.get("val_check_interval")
    if isinstance(interval, (int, float)) and interval <= 0:
        raise MisconfigurationException(
            f"trainer.val_check_interval: {interval} is not possible; give batches from 1, or a fraction such as 0.5. "
            "For no validation take --trainer.limit_val_batches 0."
        )
    clip = options.get("gradient_clip_val")
    if isinstance(clip, (int, float)) and not clip >= 0:  # NaN is refused by this too
        raise MisconfigurationException(f"trainer.gradient_clip_val: {clip} is not possible; give a number above 0.")
    if options.get("barebones"):
        raise MisconfigurationException(
            "trainer.barebones: it switches off the checkpoints and figures that a run is made of. "
            "For less output take --trainer.logger false --trainer.enable_progress_bar false."
        )
    if options.get("default_root_dir") is not None:
        raise MisconfigurationException(
            "trainer.default_root_dir: a run's files go into its run folder. "
            "Set the environment variable LITLAB_RUNS_DIR to have run folders elsewhere."
        )
    on_cpu = options.get("accelerator") == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if on_cpu and str(options.get("precision")) in ("16-true", "16"):
        raise MisconfigurationException(
            f"trainer.precision: {options['precision']} gives NaN on a CPU. Take bf16-mixed or 32-true."
        )
    nodes = options.get("num_nodes")
    if isinstance(nodes, int) and nodes > 1 and launched() is None:
        raise MisconfigurationException(
            f"trainer.num_nodes: {nodes} machines need a launcher that starts litlab on each, torchrun or srun; "
            "docs/scaling.md has the commands."
        )


def check_interval(options: dict[str, Any], data: LightningDataModule) -> None:
    """A `val_check_interval` in batches that no epoch reaches."""
    interval = options.get("val_check_interval")
    if isinstance(interval, bool) or not isinstance(interval, int) or not isinstance(data, LitDataModule):
        return
    loader: Any = data.train_dataloader()
    batches = len(getattr(loader, "batches", loader))  # the loader may give several at once
    if interval > batches and options.get("check_val_every_n_epoch", 1) is not None:
        raise MisconfigurationException(
            f"trainer.val_check_interval: an epoch has {batches} batches, so it never reaches {interval}. "
            "Give fewer batches, or a fraction such as 0.5."
        )


def check_plain(part: LightningModule | LightningDataModule) -> None:
    """Hyper-parameters that could not be loaded again: better told before training than after it."""
    for name, value in dict(part.hparams).items():
        buffer = io.BytesIO()
        try:
            torch.save(value, buffer)
            buffer.seek(0)
            torch.load(buffer, weights_only=True)
        except Exception as error:  # whatever pickle makes of it
            raise MisconfigurationException(
                f"{type(part).__name__}: the hyper-parameter '{name}' is no plain data ({type(value).__name__}), so "
                f"its checkpoint could not be loaded safely. Leave it out: save_hyperparameters(ignore=['{name}'])."
            ) from error

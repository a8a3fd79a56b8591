"""Checks of Trainer options that Lightning would ignore or reject late, or that give NaN."""

from __future__ import annotations

import io
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import LitDataModule
from experiments.machine.launchers import launched

_MINIMUM = {"accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "num_nodes": 1, "log_every_n_steps": 0}


def check_trainer(options: dict[str, Any]) -> None:
    """Raise an error for the first invalid option; `options` are the Trainer's arguments."""
    for name, minimum in _MINIMUM.items():
        value = options.get(name)
        if isinstance(value, int) and value < minimum:
            raise MisconfigurationException(
                f"trainer.{name} must be {minimum} or more, got {value}. Set --trainer.{name} 1."
            )
    interval = options.get("val_check_interval")
    if isinstance(interval, (int, float)) and interval <= 0:
        raise MisconfigurationException(
            f"trainer.val_check_interval must be at least 1 batch, or a fraction such as 0.5, got {interval}. "
            "To disable validation, set --trainer.limit_val_batches 0."
        )
    clip = options.get("gradient_clip_val")
    if isinstance(clip, (int, float)) and not clip >= 0:  # also true for NaN
        raise MisconfigurationException(
            f"trainer.gradient_clip_val must be 0 or more, got {clip}. Set --trainer.gradient_clip_val 1.0."
        )
    if options.get("barebones"):
        raise MisconfigurationException(
            "trainer.barebones must be false: it disables checkpoints and metrics, which a run needs. "
            "For less output, set --trainer.logger false --trainer.enable_progress_bar false."
        )
    if options.get("default_root_dir") is not None:
        raise MisconfigurationException(
            "trainer.default_root_dir must be null: the files of a run are in its run folder. "
            "Set the environment variable LITLAB_RUNS_DIR to move the run folders."
        )
    on_cpu = options.get("accelerator") == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if on_cpu and str(options.get("precision")) in ("16-true", "16"):
        raise MisconfigurationException(
            f"trainer.precision {options['precision']} gives NaN on a CPU. Set it to bf16-mixed or 32-true."
        )
    nodes = options.get("num_nodes")
    if isinstance(nodes, int) and nodes > 1 and launched() is None:
        raise MisconfigurationException(
            f"trainer.num_nodes must be 1 without a launcher, got {nodes}. Start litlab with torchrun or srun, as in "
            "docs/scaling.md."
        )


def check_interval(options: dict[str, Any], data: LightningDataModule) -> None:
    """Raise an error if `val_check_interval` is larger than the number of batches of an epoch."""
    interval = options.get("val_check_interval")
    if isinstance(interval, bool) or not isinstance(interval, int) or not isinstance(data, LitDataModule):
        return
    loader: Any = data.train_dataloader()
    batches = len(getattr(loader, "batches", loader))  # with steps_per_call, an item contains several batches
    if interval > batches and options.get("check_val_every_n_epoch", 1) is not None:
        raise MisconfigurationException(
            f"trainer.val_check_interval must be at most {batches}, the number of batches in an epoch, got {interval}. "
            "Set fewer batches, or a fraction such as 0.5."
        )


def check_plain(module: LightningModule | LightningDataModule) -> None:
    """Raise an error before training if a checkpoint with the hyperparameters could not be loaded."""
    for name, value in dict(module.hparams).items():
        buffer = io.BytesIO()
        try:
            torch.save(value, buffer)
            buffer.seek(0)
            torch.load(buffer, weights_only=True)
        except Exception as error:  # pickle raises errors of any type
            raise MisconfigurationException(
                f"{type(module).__name__}: the hyperparameter '{name}' must be plain data, got {type(value).__name__}, "
                f"which a checkpoint cannot load safely. Exclude it: save_hyperparameters(ignore=['{name}'])."
            ) from error

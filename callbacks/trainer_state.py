"""Queries of a trainer, and small functions that several callbacks share."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn

if TYPE_CHECKING:  # imports slowly, and only runs that log to TensorBoard need it
    from torch.utils.tensorboard import SummaryWriter


def is_fitting(trainer: Trainer) -> bool:
    """Return True while `fit` is running, including its validation."""
    return trainer.state.fn == TrainerFn.FITTING


def is_dry_run(trainer: Trainer) -> bool:
    """Return True under `fast_dev_run`, where callbacks write nothing."""
    return bool(getattr(trainer, "fast_dev_run", False))


def last_step(trainer: Trainer) -> int:
    """Return the index of the newest optimizer step, from 0 as in Lightning's loggers."""
    return max(int(trainer.global_step) - 1, 0)


def log_to_all(trainer: Trainer, metrics: dict[str, float]) -> None:
    """Log metrics of the newest optimizer step to every logger."""
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=last_step(trainer))


def tensorboard_logger(trainer: Trainer) -> TensorBoardLogger | None:
    """Return the run's TensorBoard logger on rank 0, else None; always None under `fast_dev_run`."""
    if not trainer.is_global_zero or is_dry_run(trainer):
        return None
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def tensorboard_writer(trainer: Trainer) -> "SummaryWriter | None":
    """Return the writer of `tensorboard_logger`, or None."""
    logger = tensorboard_logger(trainer)
    return None if logger is None else logger.experiment


def code_block(text: str) -> str:
    """Return text as an indented Markdown code block, which backticks in the text cannot end."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def format_number(value: float) -> str:
    """Format a number with four decimals in the usual range, else with three significant digits: 0.4123, 1.2e-05."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"


def was_saved(trainer: Trainer, name: str) -> bool:
    """Return True unless the last attempt to save the checkpoint of this file name failed."""
    failed: dict[Path, str] = getattr(trainer.strategy.checkpoint_io, "failed", {})
    return not any(path.name == name for path in failed)


def epoch_metrics(metrics: Mapping[str, torch.Tensor], prefix: str) -> dict[str, float]:
    """Return the metrics with a prefix as floats, without values per step and without duplicates under `_epoch`."""
    names = [name for name in metrics if name.startswith(prefix)]
    return {
        name: float(metrics[name])
        for name in names
        if not name.endswith("_step") and not (name.endswith("_epoch") and name.removesuffix("_epoch") in names)
    }


def gather_objects(trainer: Trainer, value: Any) -> list[Any]:
    """Return the objects of all processes by rank; call it on every process, with tensors on the CPU."""
    if trainer.world_size == 1:
        return [value]
    gathered: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, value)
    return gathered

"""What several callbacks need: the TensorBoard writer, a forward pass that leaves no trace, numbers as text."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn

if TYPE_CHECKING:  # its import takes a while and belongs to runs that log there
    from torch.utils.tensorboard import SummaryWriter


def is_fitting(trainer: Trainer) -> bool:
    """Whether `fit` is running, the validation inside it included."""
    return trainer.state.fn == TrainerFn.FITTING


def is_dry_run(trainer: Trainer) -> bool:
    """Under `fast_dev_run` nothing is written."""
    return bool(getattr(trainer, "fast_dev_run", False))


def last_step(trainer: Trainer) -> int:
    """The newest optimizer step, counted from 0 as Lightning's loggers do."""
    return max(int(trainer.global_step) - 1, 0)


def tensorboard_logger(trainer: Trainer) -> TensorBoardLogger | None:
    """The run's TensorBoard logger on the process that writes, else None (also under `fast_dev_run`)."""
    if not trainer.is_global_zero or is_dry_run(trainer):
        return None
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def tensorboard_writer(trainer: Trainer) -> "SummaryWriter | None":
    """The writer of `tensorboard_logger`, or None."""
    logger = tensorboard_logger(trainer)
    if logger is None:
        return None
    writer: SummaryWriter = logger.experiment
    return writer


def format_number(value: float) -> str:
    """Four decimals in the usual range, else three significant digits: 0.4123, 1.2e-05."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"


def epoch_metrics(metrics: Mapping[str, torch.Tensor], prefix: str) -> dict[str, float]:
    """The scalars under a prefix as floats, without the per-step forms and the `_epoch` doubles."""
    names = [name for name in metrics if name.startswith(prefix)]
    kept = [
        name
        for name in names
        if not name.endswith("_step") and not (name.endswith("_epoch") and name.removesuffix("_epoch") in names)
    ]
    return {name: float(metrics[name]) for name in kept}


def from_all(trainer: Trainer, own: Any) -> list[Any]:
    """What every process has, in the order of their ranks; plain data and tensors on the CPU."""
    if trainer.world_size == 1:
        return [own]
    everyone: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(everyone, own)
    return everyone

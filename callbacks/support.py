"""What several callbacks need: the TensorBoard writer, a forward pass that leaves no trace, numbers as text."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

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


@contextmanager
def undisturbed(module: LightningModule) -> Iterator[None]:
    """Evaluation mode without gradients; modes and all random states are put back, also after an error."""
    modes = [(child, child.training) for child in module.modules()]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = [module.device] if module.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            module.eval()
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        for child, training in modes:
            child.training = training


@contextmanager
def told(owner: str, what: str) -> Iterator[None]:
    """An error within the block becomes a warning that names `owner` and `what`: no picture is worth a training."""
    try:
        yield
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        rank_zero_warn(f"{owner}: {what} could not be made ({type(error).__name__}: {words}); it is left out.")


def split_batch(batch: Any) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The tensors of a batch (inputs, targets, ...) or of inputs alone; None where there is no tensor."""
    parts = list(batch) if isinstance(batch, (tuple, list)) else [batch]
    found = [part if isinstance(part, torch.Tensor) else None for part in [*parts, None][:2]]
    return found[0], found[1]


def example_input(module: LightningModule) -> Any:
    """`example_input_array` on the module's device and, where floating, in its dtype; None where there is none."""

    def place(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(module.device, module.dtype if value.is_floating_point() else value.dtype)  # type: ignore[arg-type]
        if isinstance(value, (tuple, list)):
            return tuple(place(item) for item in value)
        return {key: place(item) for key, item in value.items()} if isinstance(value, Mapping) else value

    return place(module.example_input_array)


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

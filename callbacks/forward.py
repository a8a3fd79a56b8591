"""Forward passes during training that do not affect it."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

NOT_A_TENSOR = "{}: the first element of a batch is not a tensor; skipping the figures. Remove the callback."


@contextmanager
def isolated_forward(module: LightningModule) -> Iterator[None]:
    """Switch to evaluation mode without gradients, and restore modes and random states at the end or after an error."""
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
def warn_on_error(owner: str, figures: str) -> Iterator[None]:
    """Warn instead of raising an error from the block, so that a failed figure does not end training."""
    try:
        yield
    except Exception as error:
        rank_zero_warn(f"{owner}: could not create {figures} ({describe_error(error)}); skipping it.")


def describe_error(error: Exception) -> str:
    """Return the type and message of an error in one line, with at most 200 characters of the message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def split_batch(batch: Any) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return inputs and targets of a batch `(inputs, targets, ...)` or `inputs`; None for each that is not a tensor."""
    values = [*(batch if isinstance(batch, (tuple, list)) else [batch]), None, None]
    inputs, targets = (value if isinstance(value, torch.Tensor) else None for value in values[:2])
    return inputs, targets


def to_device(trainer: Trainer, batch: Any) -> Any:
    """Return the batch on the trainer's device and in its precision, as Lightning's loops do."""
    return trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))


def example_input(module: LightningModule) -> Any:
    """Return `example_input_array` on the module's device and, for floating-point tensors, in its dtype."""

    def move(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(module.device, module.dtype if value.is_floating_point() else value.dtype)  # type: ignore[arg-type]
        if isinstance(value, (tuple, list)):
            return tuple(move(item) for item in value)
        return {key: move(item) for key, item in value.items()} if isinstance(value, Mapping) else value

    return move(module.example_input_array)


def predictions(
    trainer: Trainer, module: LightningModule, loaders: Any, limits: Sequence[int | float]
) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Yield inputs and the output of `predict_step` for each batch; stop if the output is not a dict.

    `limits` contains the maximum number of batches of each loader.
    """
    loaders = loaders if isinstance(loaders, (list, tuple)) else [] if loaders is None else [loaders]
    with isolated_forward(module), torch.compiler.set_stance("force_eager"):
        for loader, limit in zip(loaders, limits, strict=False):
            for index, batch in enumerate(loader):
                if index >= limit:
                    break
                batch = to_device(trainer, batch)
                with trainer.precision_plugin.forward_context():
                    output = module.predict_step(batch, index)
                inputs, _ = split_batch(batch)
                if not isinstance(output, dict) or inputs is None:
                    return
                yield inputs, output

"""Forward passes that leave no trace in the training they interrupt."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn

if TYPE_CHECKING:  # its import takes a while and belongs to runs that log there
    pass


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

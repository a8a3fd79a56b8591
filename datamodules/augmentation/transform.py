"""Base class of the transforms: options, then parameters from random numbers, then one operation on the batch."""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.checks import check_integer

Parameters = tuple[Tensor, ...]
Shape = tuple[int, int, int]  # channels, height, width

_FIX = "Change it in data.augment."


@dataclass(frozen=True)
class TransformContext:
    """Everything that the parameters of one transform depend on, for one batch."""

    uniforms: Tensor  # float32 (B, num_uniforms) in [0, 1), one row per sample
    samples: Tensor  # int64 (B,), sample numbers
    height: int
    width: int
    epoch: int = 0
    seed: int = 0  # of this batch, for random numbers per pixel
    run_seed: int = 0


class Transform:
    """A transform of a batch `(B, C, H, W)` with its own parameters for every sample.

    A subclass implements `parameters` and `apply`, or `__call__`. None of them waits for the device: they depend on
    shapes, not on values. Images are floats in 0..1. If `exact` is True they may be integers too, because pixels are
    only moved or set to 0.
    """

    num_uniforms: int = 0  # random numbers per sample
    full_batch: bool = False  # needs the batch of all ranks, for random numbers per pixel
    exact: bool = False

    def check(self, shape: Shape) -> None:
        """Raise an error for images of a shape that it cannot transform."""

    def output_shape(self, shape: Shape) -> Shape:
        """Return the smallest shape of its output for images of this shape."""
        return shape

    def parameters(self, context: TransformContext) -> Parameters:
        """Return tensors with one row per sample; a pure function of `context`."""
        raise NotImplementedError(f"{type(self).__name__} must define parameters()")

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Return the transformed images as a new tensor."""
        raise NotImplementedError(f"{type(self).__name__} must define apply()")

    def __call__(self, images: Tensor, context: TransformContext) -> Tensor:
        """Generate the parameters and apply them."""
        return self.apply(images, self.parameters(context))


def integers(uniforms: Tensor, count: int) -> Tensor:
    """Return int64 random integers from 0 to count - 1, for counts below 2^24 (the precision of float32)."""
    return (uniforms * count).long()


def to_4d(values: Tensor) -> Tensor:
    """Reshape `(B,)` to `(B, 1, 1, 1)`."""
    return values.view(-1, 1, 1, 1)


def where_samples(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Select samples from `yes` or `no` by `condition` `(B,)`; copying rows is faster than torch.where."""
    rows = torch.arange(len(no), device=no.device) + condition * len(no)
    return torch.cat([no, yes]).index_select(0, rows)


def number(name: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    """Return `value` as a float; raise an error unless it is a number in low..high."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high or value == math.inf:
        bounds = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
        raise MisconfigurationException(f"augment: {name} must be a number {bounds}, got {value!r}. {_FIX}")
    return float(value)


def integer(name: str, value: Any, low: int) -> int:
    """Return `value`; raise an error unless it is an integer of at least `low`."""
    return check_integer(f"augment: {name}", value, low, _FIX)


def interval(name: str, value: Any, low: float = 0.0, high: float = math.inf) -> tuple[float, float]:
    """Return two numbers in low..high; raise an error unless the first is the smaller one."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise MisconfigurationException(f"augment: {name} must be two numbers [low, high], got {value!r}. {_FIX}")
    first, last = (number(name, entry, low, high) for entry in value)
    if first > last:
        raise MisconfigurationException(
            f"augment: {name}={value!r} is in the wrong order. Put the smaller number first."
        )
    return first, last


def choice(name: str, value: Any, known: tuple[str, ...]) -> str:
    """Return `value`; raise an error unless it is one of the known names."""
    if value not in known:
        raise MisconfigurationException(
            f"augment: {name} must be {' or '.join(known)}, got {value!r}.{did_you_mean(str(value), known)} {_FIX}"
        )
    return str(value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean x?' for the closest known name, or an empty string."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""

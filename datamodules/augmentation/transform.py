"""What every transformation of the augmentation is: settings, then parameters from uniform numbers, then a pass."""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

Parameters = tuple[Tensor, ...]
Shape = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True)
class Draw:
    """All that the parameters of one transformation depend on, for one batch."""

    uniforms: Tensor  # float32 (B, columns) in [0, 1), a row per sample
    samples: Tensor  # int64 (B,), which samples of the data these are
    height: int
    width: int
    epoch: int = 0
    seed: int = 0  # of this batch, for what is drawn per pixel
    run_seed: int = 0


class Transform:
    """A transformation of a batch (B, C, H, W) that draws its own parameters for every sample.

    `apply` never waits for the device: nothing in it depends on values, only on shapes. Images are floats in 0..1;
    where `exact` is true they may be whole numbers too, since pixels are only moved or blanked.
    """

    columns: int = 0  # uniform numbers per sample
    whole_batch: bool = False  # draws per pixel, so it has to see the batch of all ranks
    exact: bool = False

    def check(self, shape: Shape) -> None:
        """Refuse images of a shape that it cannot transform."""

    def made_shape(self, shape: Shape) -> Shape:
        """The smallest shape that it makes of images of this shape."""
        return shape

    def parameters(self, draw: Draw) -> Parameters:
        """A pure function of `draw`; each tensor has one row per sample."""
        raise NotImplementedError(f"{type(self).__name__} defines no parameters()")

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """The transformed images, a new tensor."""
        raise NotImplementedError(f"{type(self).__name__} defines no apply()")

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        """Draw and apply."""
        return self.apply(images, self.parameters(draw))


def integers(uniforms: Tensor, count: int) -> Tensor:
    """0 to count - 1, equally likely: int64. Below 2^24, count times the largest float32 under 1 stays under count."""
    return (uniforms * count).long()


def per_sample(values: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def select(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`yes` where `chosen` (B,), else `no`, whole samples. Copying rows is several times faster than `torch.where`."""
    rows = torch.arange(len(no), device=no.device) + chosen * len(no)
    return torch.cat([no, yes]).index_select(0, rows)


def number(what: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    """A number in low..high, checked."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high or value == math.inf:
        bounds = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
        raise MisconfigurationException(f"augment: {what}={value!r} is not possible. Give a number {bounds}.")
    return float(value)


def whole(what: str, value: Any, low: int) -> int:
    """A whole number of at least `low`, checked."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise MisconfigurationException(
            f"augment: {what}={value!r} is not possible. Give a whole number of at least {low}."
        )
    return value


def span(what: str, value: Any, low: float = 0.0, high: float = math.inf) -> tuple[float, float]:
    """A pair of numbers in low..high, the smaller one first, checked."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise MisconfigurationException(f"augment: {what}={value!r} is not possible. Give two numbers, [least, most].")
    first, last = (number(what, entry, low, high) for entry in value)
    if first > last:
        raise MisconfigurationException(f"augment: {what}={value!r} is not possible. Put the smaller number first.")
    return first, last


def one_of(what: str, value: Any, known: tuple[str, ...]) -> str:
    """One of the known words, checked."""
    if value not in known:
        raise MisconfigurationException(
            f"augment: {what}={value!r} is not known.{did_you_mean(str(value), known)} It is {' or '.join(known)}."
        )
    return str(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' Did you mean x?' for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""

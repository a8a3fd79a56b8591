"""Base class of the transforms, and functions that they share."""

from dataclasses import dataclass

import torch
from torch import Tensor

Parameters = tuple[Tensor, ...]
Shape = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True)
class TransformContext:
    """The inputs from which a transform computes its parameters for one batch."""

    uniforms: Tensor  # float32 `(B, num_uniforms)` in [0, 1), one row per sample
    samples: Tensor  # int64 `(B,)`, sample numbers
    height: int
    width: int
    epoch: int = 0
    seed: int = 0  # of this batch, for random numbers per pixel
    run_seed: int = 0


class Transform:
    """A transform of a batch `(B, C, H, W)` with its own parameters for every sample.

    A subclass implements `parameters` and `apply`, or `__call__`. They depend on shapes, not on values, so they do not
    wait for the device. Images are floats in 0..1. If `exact` is True, they may also be integers, because the transform
    only moves pixels or sets them to 0.
    """

    num_uniforms: int = 0  # random numbers per sample
    full_batch: bool = False  # needs the batch of all ranks, for random numbers per pixel
    exact: bool = False

    def check(self, shape: Shape) -> None:
        """Raise an error if the transform does not accept images of this shape."""

    def output_shape(self, shape: Shape) -> Shape:
        """Return the smallest shape of the output for images of this shape."""
        return shape

    def parameters(self, context: TransformContext) -> Parameters:
        """Return tensors with one row per sample, which depend only on `context`."""
        raise NotImplementedError(f"{type(self).__name__} must define parameters()")

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Return the transformed images as a new tensor."""
        raise NotImplementedError(f"{type(self).__name__} must define apply()")

    def __call__(self, images: Tensor, context: TransformContext) -> Tensor:
        """Return the transformed images, with parameters from `context`."""
        return self.apply(images, self.parameters(context))


def integers(uniforms: Tensor, count: int) -> Tensor:
    """Return random integers in 0..count-1, int64, for counts below 2^24 (the precision of float32)."""
    return (uniforms * count).long()


def to_4d(values: Tensor) -> Tensor:
    """Return values `(B,)` as `(B, 1, 1, 1)`."""
    return values.view(-1, 1, 1, 1)


def where_samples(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Return samples of `yes` where `condition` `(B,)` is True, else of `no`; faster than torch.where."""
    rows = torch.arange(len(no), device=no.device) + condition * len(no)
    return torch.cat([no, yes]).index_select(0, rows)

"""Checks of input shapes, in words."""

import math
from collections.abc import Sequence

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn


def known_shape(model: str, input_shape: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of one sample, refused where it is missing or has an axis without elements."""
    if input_shape is None or len(input_shape) == 0 or min(input_shape) < 1:
        given = None if input_shape is None else tuple(input_shape)
        raise MisconfigurationException(
            f"input_shape: {model} needs the shape of one sample, such as (784,), not {given}."
        )
    return tuple(int(size) for size in input_shape)


def image_shape(model: str, input_shape: Sequence[int] | None) -> tuple[int, int, int]:
    """(channels, height, width), or a refusal that names the model and what the data gives."""
    shape = known_shape(model, input_shape)
    if len(shape) != 3:
        raise MisconfigurationException(
            f"model: {model} needs images (channels, height, width), the data gives {shape}. Take data of images, or a "
            "model for any shape such as LitMLP."
        )
    return shape[0], shape[1], shape[2]


def flat_size(input_shape: Sequence[int]) -> int:
    """Number of values in one sample."""
    return math.prod(input_shape)


def output_size(network: nn.Module, input_shape: Sequence[int], what: str) -> int:
    """How many values `network` makes of one sample; an image that it shrinks to nothing is refused."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            size = network(torch.zeros(1, *input_shape)).numel()
    except RuntimeError as error:
        height, width = tuple(input_shape)[-2:]
        raise MisconfigurationException(
            f"{what}: images of {height}x{width} are too small for it; choose another variant."
        ) from error
    finally:
        network.train(training)
    return int(size)


def positive(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Layer sizes as a tuple of positive integers."""
    if isinstance(values, str) or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in values):
        raise MisconfigurationException(f"{name}: {values!r} must be a list of positive integers.")
    return tuple(values)


def probability(name: str, value: float) -> float:
    """A dropout rate in [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise MisconfigurationException(f"{name}: {value} is no rate between 0 and 1 (1 excluded).")
    return float(value)

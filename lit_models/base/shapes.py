"""Checks of the models' arguments: input shapes, layer sizes, choices and dropout rates."""

from collections.abc import Collection, Sequence

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn


def sample_shape(model: str, input_shape: Sequence[int] | None) -> tuple[int, ...]:
    """Return the shape of one sample; raise an error if it is missing or has an empty axis."""
    if not input_shape or min(input_shape) < 1:
        given = None if input_shape is None else tuple(input_shape)
        raise MisconfigurationException(
            f"input_shape of {model} must be the shape of one sample, such as (784,), got {given}. "
            "Use data with input_shape, or set --model.input_shape."
        )
    return tuple(int(size) for size in input_shape)


def image_shape(model: str, input_shape: Sequence[int] | None) -> tuple[int, int, int]:
    """Return (channels, height, width); raise an error if the samples are not images."""
    shape = sample_shape(model, input_shape)
    if len(shape) != 3:
        raise MisconfigurationException(
            f"model: {model} needs images (channels, height, width), got samples of shape {shape}. Use image data, or "
            "a model such as LitMLP, which takes any shape."
        )
    return shape[0], shape[1], shape[2]


def output_size(network: nn.Module, input_shape: Sequence[int], what: str) -> int:
    """Return the number of outputs of `network` for one image; raise an error if the image is too small."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            return int(network(torch.zeros(1, *input_shape)).numel())
    except RuntimeError as error:
        height, width = tuple(input_shape)[-2:]
        raise MisconfigurationException(
            f"{what}: images of {height}x{width} pixels are too small. Set another variant or use larger images."
        ) from error
    finally:
        network.train(training)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def positive_integer(name: str, value: int) -> int:
    """Return a layer size; raise an error unless it is a positive integer."""
    if not _is_size(value):
        raise MisconfigurationException(f"{name} must be a positive integer, got {value!r}. Set {name} to 1 or more.")
    return value


def positive_integers(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Return layer sizes as a tuple; raise an error unless they are positive integers."""
    if isinstance(values, str) or not all(map(_is_size, values)):
        raise MisconfigurationException(
            f"{name} must be a list of positive integers, got {values!r}. Set one such as --model.{name} '[64, 32]'."
        )
    return tuple(values)


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise an error unless the value is one of the choices."""
    if value not in choices:
        names = ", ".join(choices)
        raise MisconfigurationException(f"{name} must be one of {names}, got {value!r}. Set --model.{name} to a name.")


def dropout_rate(value: float) -> float:
    """Return a dropout rate; raise an error unless it is at least 0 and below 1."""
    if not 0.0 <= value < 1.0:
        raise MisconfigurationException(f"dropout must be at least 0 and below 1, got {value}. Set --model.dropout 0.")
    return float(value)

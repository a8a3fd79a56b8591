"""Hyperparameters as plain data, so that every checkpoint loads with ``weights_only=True``."""

import enum
import os
from collections.abc import Collection, Mapping
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn

from lit_models.parts.specs import short_form


class NotPlainError(TypeError):
    """Error for a value that cannot be converted to plain data."""


def plain(value: Any) -> Any:
    """Return the value as None, bool, int, float, str, list or dict; convert tuples, sets, arrays, paths and enums."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value)
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)  # also for instances of subclasses
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)
    if isinstance(value, (list, tuple, range)):  # torch.Size is a tuple
        return [plain(entry) for entry in value]
    if isinstance(value, torch.Tensor) or type(value).__module__ == "numpy":
        return plain(value.tolist())
    raise NotPlainError(f"{type(value).__qualname__} is not plain data")


def plain_arguments(arguments: Mapping[str, Any], omitted: Collection[str], specs: Collection[str]) -> dict[str, Any]:
    """Return arguments as plain data, those named in `specs` in short form; warn and skip if that is impossible."""
    result: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in omitted:
            continue
        try:
            result[name] = plain(short_form(value, name) if name in specs and value is not None else value)
        except NotPlainError as error:
            rank_zero_warn(
                f"{name} is not stored with the hyperparameters ({error}). Pass it when loading a checkpoint."
            )
    return result

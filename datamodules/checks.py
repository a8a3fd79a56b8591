"""Checks of arguments and of loaded samples."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

# `name` is an argument of a datamodule ("batch_size") or an option of a transform ("augment: crop: padding").


def check_integer(name: str, value: Any, low: int = 1, high: float = math.inf, fix: str = "") -> int:
    """Return `value`; raise an error unless it is an integer in low..high. `fix` is the error's last sentence."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        kind = "a positive integer" if low == 1 else f"an integer {_range(low, high)}"
        raise MisconfigurationException(f"{name} must be {kind}, got {value!r}. {fix or _fix(name, f'{low} or more')}")
    return value


def check_number(name: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    """Return `value` as a float; raise an error unless it is a finite number in low..high."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high or value == math.inf:
        raise MisconfigurationException(
            f"{name} must be a number {_range(low, high)}, got {value!r}. {_fix(name, f'{low:g} or more')}"
        )
    return float(value)


def check_interval(name: str, value: Any, low: float = 0.0, high: float = math.inf) -> tuple[float, float]:
    """Return two numbers in low..high; raise an error unless the first is the smaller one."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise MisconfigurationException(
            f"{name} must be two numbers [low, high], got {value!r}. {_fix(name, 'two numbers')}"
        )
    first, last = (check_number(name, entry, low, high) for entry in value)
    if first > last:
        raise MisconfigurationException(f"{name}={value!r} is in the wrong order. Put the smaller number first.")
    return first, last


def check_choice(name: str, value: Any, known: Sequence[Any]) -> Any:
    """Return `value`; raise an error unless it is one of the known values."""
    if value not in known:
        choices = f"{', '.join(map(str, known[:-1]))} or {known[-1]}"
        near = did_you_mean(str(value), map(str, known))
        raise MisconfigurationException(f"{name} must be {choices}, got {value!r}.{near} {_fix(name, known[0])}")
    return value


def _range(low: float, high: float) -> str:
    return f"from {low:.10g} to {high:.10g}" if high < math.inf else f"of at least {low:g}"


def _fix(name: str, value: Any) -> str:
    return "Change it in data.augment." if name.startswith("augment: ") else f"Set --data.{name} to {value}."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean x?' for the closest known name, or an empty string."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""


def check_samples(what: str, inputs: Tensor, targets: Tensor, num_classes: int | None, fix: str) -> None:
    """Raise an error if there are no samples, if lengths differ, or if a label is out of range.

    Args:
        what: plural name of the data: "MNIST's train files in /data".
        inputs: `(N, ...)`.
        targets: `(N, ...)`; integers are class indices.
        num_classes: None for data without classes.
        fix: last sentence of the error.
    """
    if not len(inputs):
        raise MisconfigurationException(f"data: {what} contain no samples. {fix}")
    if len(inputs) != len(targets):
        kind = "targets" if num_classes is None else "labels"
        raise MisconfigurationException(f"data: {what} contain {len(inputs)} samples but {len(targets)} {kind}. {fix}")
    if num_classes is None or targets.is_floating_point():
        return
    low, high = int(targets.min()), int(targets.max())
    if not 0 <= low <= high < num_classes:
        wrong = low if low < 0 else high
        raise MisconfigurationException(
            f"data: {what} contain the label {wrong}, expected 0 to {num_classes - 1}. {fix}"
        )


def check_two_tensors(what: str, loaded: Any) -> tuple[Tensor, Tensor]:
    """Return inputs and targets; raise an error if `load_part` returned anything else."""
    values = loaded if isinstance(loaded, (tuple, list)) else [loaded]
    if len(values) == 2 and all(isinstance(value, Tensor) for value in values):
        if any(value.is_complex() for value in values):
            raise MisconfigurationException(f"data: {what} returned complex numbers. Return their real parts.")
        return values[0], values[1]
    kinds = " and ".join(type(value).__name__ for value in values)
    raise MisconfigurationException(
        f"data: {what} returned {kinds or 'nothing'}. Return two tensors: inputs and targets."
    )


def check_target_arguments(name: str, kind: str, stratify: bool, target_form: str) -> None:
    """Raise an error for options that need classes; `kind` is the target kind of the datamodule `name`."""
    check_choice("target_form", target_form, ("index", "one_hot"))
    for option, used in (("stratify: true", stratify), ("target_form: one_hot", target_form == "one_hot")):
        if used and kind != "classes":
            raise MisconfigurationException(f"{option} needs classes, but the targets of {name} are {kind}. Remove it.")

"""Checks of arguments and of loaded samples."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor


def check_integer(name: str, value: Any, low: int = 1, fix: str | None = None) -> int:
    """Return `value`; raise an error unless it is an integer of at least `low`. `fix` is the error's last sentence."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        kind = "a positive integer" if low == 1 else f"an integer of at least {low}"
        fix = fix or f"Set --data.{name} to {low} or more."
        raise MisconfigurationException(f"{name} must be {kind}, got {value!r}. {fix}")
    return value


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
    if isinstance(loaded, (tuple, list)) and len(loaded) == 2 and all(isinstance(one, Tensor) for one in loaded):
        return loaded[0], loaded[1]
    kinds = [type(one).__name__ for one in loaded] if isinstance(loaded, (tuple, list)) else [type(loaded).__name__]
    raise MisconfigurationException(
        f"data: {what} returned {' and '.join(kinds) or 'nothing'}. Return two tensors: inputs and targets."
    )


def check_target_arguments(name: str, kind: str, stratify: bool, target_form: str) -> None:
    """Raise an error for options that need classes; `kind` is the target kind of the datamodule `name`."""
    if target_form not in ("index", "one_hot"):
        raise MisconfigurationException(f"target_form must be index or one_hot, got {target_form!r}. Change it.")
    for option, used in (("stratify: true", stratify), ("target_form: one_hot", target_form == "one_hot")):
        if used and kind != "classes":
            raise MisconfigurationException(f"{option} needs classes, but the targets of {name} are {kind}. Remove it.")

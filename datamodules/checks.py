"""Loaded data against the facts that its datamodule states."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor


def check_samples(what: str, inputs: Tensor, targets: Tensor, num_classes: int | None, advice: str) -> None:
    """Refuse an empty part, unequal lengths and labels out of range.

    Args:
        what: the data in words, a plural: "MNIST's train files in /data".
        inputs: (N, ...).
        targets: (N, ...); integers are class indices.
        num_classes: None where there are no classes.
        advice: the way out, a sentence.
    """
    if not len(inputs):
        raise MisconfigurationException(f"data: {what} hold no samples. {advice}")
    if len(inputs) != len(targets):
        kind = "targets" if num_classes is None else "labels"
        raise MisconfigurationException(f"data: {what} hold {len(inputs)} samples but {len(targets)} {kind}. {advice}")
    if num_classes is None or targets.is_floating_point():
        return
    low, high = int(targets.min()), int(targets.max())
    if not 0 <= low <= high < num_classes:
        wrong, most = (low if low < 0 else high), num_classes - 1
        raise MisconfigurationException(f"data: {what} hold the label {wrong}, expected 0 to {most}. {advice}")


def two_tensors(what: str, loaded: Any) -> tuple[Tensor, Tensor]:
    """What a `load_part` returned, refused where it is anything but inputs and targets."""
    if isinstance(loaded, (tuple, list)) and len(loaded) == 2 and all(isinstance(one, Tensor) for one in loaded):
        return loaded[0], loaded[1]
    kinds = [type(one).__name__ for one in loaded] if isinstance(loaded, (tuple, list)) else [type(loaded).__name__]
    raise MisconfigurationException(
        f"data: {what} returned {' and '.join(kinds) or 'nothing'}. Return two tensors: inputs and targets."
    )


def check_target_arguments(name: str, kind: str, stratify: bool, target_form: str) -> None:
    """Refuse what only classes can give; `kind` is what the targets of the datamodule `name` are."""
    if stratify and kind != "classes":
        raise MisconfigurationException(f"stratify: {name} has {kind}, no classes to stratify by. Leave it out.")
    if target_form not in ("index", "one_hot"):
        raise MisconfigurationException(f"target_form: {target_form!r} is not known. Give index or one_hot.")
    if target_form == "one_hot" and kind != "classes":
        raise MisconfigurationException(f"target_form: one_hot needs classes, {name} has {kind}. Leave it out.")

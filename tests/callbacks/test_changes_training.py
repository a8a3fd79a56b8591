"""Tests of the rule that tells which callbacks may change training."""

from __future__ import annotations

import pytest
from lightning.pytorch import Callback

from callbacks.changes_training import changing_callbacks, how_to_declare


class Undeclared(Callback):
    """Callback without `changes_training`."""


class Declared(Undeclared):
    changes_training = False


def entry(class_path: str) -> dict[str, str]:
    return {"class_path": class_path}


UNDECLARED, DECLARED = entry(f"{__name__}.Undeclared"), entry(f"{__name__}.Declared")


@pytest.mark.parametrize("name", ["Gradients", "callbacks.Gradients", "callbacks.network.gradients.Gradients"])
def test_observers_do_not_count_as_changing(name: str) -> None:
    assert changing_callbacks([entry(name), entry("LearningRateMonitor"), DECLARED]) == []
    assert changing_callbacks(entry("lightning.pytorch.callbacks.Timer")) == []
    assert changing_callbacks(None) == []


@pytest.mark.parametrize("name", ["AveragedWeights", "AveragedViews", "EarlyStopping", "no_module.Gone", "Unknown"])
def test_other_callbacks_may_change_training(name: str) -> None:
    assert changing_callbacks([entry(name), UNDECLARED]) == [entry(name), UNDECLARED]


def test_only_own_classes_without_the_attribute_are_named() -> None:
    assert how_to_declare([UNDECLARED], [UNDECLARED, entry("AveragedWeights")]) == ""
    assert how_to_declare(None, [DECLARED]) == ""
    assert "If Undeclared only observes training, add `changes_training = False`" in how_to_declare(UNDECLARED, None)

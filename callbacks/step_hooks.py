"""Callbacks that have no business within a step."""

from typing import Any


class NoStepHooks:
    """Stands before `Callback` among the bases of a callback that does nothing within training steps.

    Lightning calls six hooks of each callback at every step, at 2 to 4 microseconds each even where they are empty;
    what is not callable it leaves out. With ten callbacks that is as much as a small network's forward pass. A child
    defines the ones it wants as usual, without `super()`.
    """

    on_train_batch_start: Any = None
    on_before_zero_grad: Any = None
    on_before_backward: Any = None
    on_after_backward: Any = None
    on_before_optimizer_step: Any = None
    on_train_batch_end: Any = None

"""Base classes that keep callbacks out of the training steps they do not need."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, Trainer

from callbacks.trainer_state import is_dry_run


class NoStepHooks:
    """Mixin, placed before `Callback`, that removes the hooks Lightning calls at every training step.

    Lightning calls six hooks of each callback per step. An empty one costs 2 to 4 microseconds, so ten callbacks cost
    as much as the forward pass of a small network. Lightning skips a hook that is not callable, so all are None here.
    A subclass defines the ones it needs without calling `super()`, or sets one for some steps by `set_step_hook`.
    """

    on_train_batch_start: Any = None
    on_before_zero_grad: Any = None
    on_before_backward: Any = None
    on_after_backward: Any = None
    on_before_optimizer_step: Any = None
    on_train_batch_end: Any = None

    def set_step_hook(self, name: str, function: Callable[..., None] | None) -> None:
        """Let Lightning call `function` at the hook `name` from now on, or no function if None."""
        setattr(self, name, function)


class Observer(NoStepHooks, Callback):
    """Base class of callbacks that observe training and do not change it.

    `litlab resume` accepts that such a callback is added or removed. A callback with another base class states the same
    by `changes_training = False`.
    """

    changes_training = False


class EveryNth:
    """Schedule that selects the first of each `n` optimizer steps, once per step and on rank 0 only."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._last = -1

    def start(self, trainer: Trainer) -> None:
        """Reset the schedule before the first step of a new or resumed run."""
        self._last = (trainer.global_step - 1) // self.n

    def __call__(self, trainer: Trainer) -> bool:
        """Return True if the current optimizer step is selected."""
        current = trainer.global_step // self.n
        if current == self._last or not trainer.is_global_zero or is_dry_run(trainer):
            return False
        self._last = current
        return True

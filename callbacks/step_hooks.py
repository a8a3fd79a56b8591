"""Callbacks that have no business within a step."""

from typing import Any

from lightning.pytorch import Trainer

from callbacks.trainer_state import is_dry_run


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


class EveryNth:
    """Whether it is the turn of an optimizer step: the first of each `n`, once, on the process that writes."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._last = -1

    def start(self, trainer: Trainer) -> None:
        """Before the first step, also of a run that goes on."""
        self._last = (trainer.global_step - 1) // self.n

    def __call__(self, trainer: Trainer) -> bool:
        turn = trainer.global_step // self.n
        if turn == self._last or not trainer.is_global_zero or is_dry_run(trainer):
            return False
        self._last = turn
        return True

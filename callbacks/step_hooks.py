"""Base classes of callbacks, which choose the steps and epochs at which Lightning calls them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.arguments import require
from callbacks.trainer_state import is_dry_run


class NoStepHooks:
    """Mixin, placed before `Callback`, that removes the hooks which Lightning calls at every training step.

    Lightning calls six hooks of each callback per step. An empty hook costs 2 to 4 microseconds, so ten callbacks cost
    as much as the forward pass of a small network. Lightning skips hooks that are not callable, so all are None here.
    A subclass defines the hooks that it needs without calling `super()`, or sets one for some steps by `set_step_hook`.
    """

    on_train_batch_start: Any = None
    on_before_zero_grad: Any = None
    on_before_backward: Any = None
    on_after_backward: Any = None
    on_before_optimizer_step: Any = None
    on_train_batch_end: Any = None

    def set_step_hook(self, name: str, function: Callable[..., None] | None) -> None:
        """Set the function that Lightning calls at the hook `name` from now on; None removes the hook."""
        setattr(self, name, function)


class Observer(NoStepHooks, Callback):
    """Base class of callbacks that observe training and do not change it.

    `litlab resume` accepts that such a callback is added or removed. A callback with another base class declares the
    same by `changes_training = False`.
    """

    changes_training = False


class EpochObserver(Observer, ABC):
    """Base class of observers that write every `every_n_epochs` epochs and at the end of training."""

    def __init__(self, every_n_epochs: int) -> None:
        require(every_n_epochs >= 1, f"{type(self).__name__}.every_n_epochs", "1 or more", every_n_epochs)
        self.every_n_epochs = every_n_epochs
        self._written_epoch = -1

    @abstractmethod
    def write(self, trainer: Trainer, module: LightningModule, epoch: int) -> None:
        """Write the state after `epoch` epochs; not called under `fast_dev_run`."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._written_epoch = -1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs == 0 and not is_dry_run(trainer):
            self._written_epoch = epoch
            self.write(trainer, pl_module, epoch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch > self._written_epoch and not is_dry_run(trainer):  # also if the run stopped early
            self.write(trainer, pl_module, trainer.current_epoch)


class EveryNth:
    """Selection of the first of each `n` optimizer steps, once per step and on rank 0 only."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._last = -1

    def start(self, trainer: Trainer) -> None:
        """Reset the selection before the first step of a new or resumed run."""
        self._last = (trainer.global_step - 1) // self.n

    def __call__(self, trainer: Trainer) -> bool:
        """Return True if the current optimizer step is selected."""
        current = trainer.global_step // self.n
        if current == self._last or not trainer.is_global_zero or is_dry_run(trainer):
            return False
        self._last = current
        return True

"""`last.ckpt`: the state from which a run goes on."""

import time
from functools import partial
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer

from callbacks.checkpoints.run_checkpoint import RunCheckpoint
from callbacks.guards.stop_signals import Stopped, StopSignals, agreed, was_saved
from callbacks.trainer_state import is_dry_run


class LastCheckpoint(RunCheckpoint):
    """The newest state from which a run can go on exactly: the last finished epoch, or a step within the next one.

    | file                  | what                          | when                                                    |
    |-----------------------|-------------------------------|---------------------------------------------------------|
    | checkpoints/last.ckpt | everything needed to train on | end of each epoch; every n steps or minutes; a stop     |

    Where `max_steps` ends the run it is written after the first step of the next epoch instead of at an epoch's
    end, from where Lightning would count wrongly, and after the last step. Within an epoch it is written between two
    optimizer steps, not where a validation follows. Stands after `BestCheckpoint` in the callback list, so that it
    holds that one's newest state.
    """

    #: tells `StopSignals` that it need not end the run itself
    stops_for_signals = True

    def __init__(self, every_n_steps: int | None = None, every_n_minutes: float | None = None) -> None:
        # A callback of its own: `save_last` of the best one would stand still at the best epoch.
        super().__init__("last", monitor=None, mode="min", on_train_epoch_end=True)
        for name, value in (("save_every_steps", every_n_steps), ("save_every_minutes", every_n_minutes)):
            if value is not None and not value > 0:
                raise MisconfigurationException(f"{name}: {value} is not possible. Give a number above 0, or null.")
        self._every_n_steps, self._every_n_minutes = every_n_steps, every_n_minutes
        self._signals = StopSignals()
        self._stepped, self.saved_step, self._saved_time, self._agreed_step = 0, 0, time.monotonic(), 0
        self._by_steps = self._watching = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        found = [callback for callback in trainer.callbacks if isinstance(callback, StopSignals)]  # type: ignore[attr-defined]
        self._signals = found[0] if found else self._signals
        self._stepped = self.saved_step = self._agreed_step = trainer.global_step
        self._saved_time = time.monotonic()
        self._by_steps = trainer.max_steps != -1
        periodic = self._every_n_steps is not None or self._every_n_minutes is not None
        self._watching = self._by_steps or periodic or trainer.world_size > 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._signals.asked is None and not self._watching:
            return  # nearly every step of nearly every run
        step = trainer.global_step
        if step == self._stepped or is_dry_run(trainer):
            return
        self._stepped = step
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return  # gradients that are being gathered are in no checkpoint
        ends = self._by_steps and step >= trainer.max_steps
        follows = _validation_follows(trainer, batch_idx)
        if not ends and (trainer.is_last_batch or follows) and not (self._by_steps and _everywhere(trainer)):
            return
        asked = self._signals.asked
        first = self._by_steps and trainer.current_epoch > 0 and batch_idx < trainer.accumulate_grad_batches
        due = ends or first or asked is not None or self._due(step)
        if trainer.world_size > 1 and not (ends or first):
            # All processes ask together, and not at every step: they wait for each other.
            if step - self._agreed_step < 10:
                return
            self._agreed_step = step
            due = bool(trainer.strategy.reduce_boolean_decision(due, all=False))
        asked = agreed(trainer, asked) if due else None
        saved = self._save(trainer, step) if due else False
        if asked is not None and not ends:
            stop = Stopped(asked, step, trainer.current_epoch, saved)
            if trainer.is_last_batch:
                raise stop
            self.on_train_batch_start = partial(_leave, stop)  # not here: the step's figures are not logged yet

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._by_steps:
            super().on_train_epoch_end(trainer, pl_module)
            self.saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.finish(trainer)
        super().on_train_end(trainer, pl_module)

    def finish(self, trainer: Trainer) -> None:
        """Save the state of a run that `max_steps` could have ended, but something else did."""
        self.on_train_batch_start = None
        if self._by_steps and self.saved_step != trainer.global_step and not is_dry_run(trainer):
            self._save(trainer, trainer.global_step)

    def _due(self, step: int) -> bool:
        if self._every_n_steps is not None and step - self.saved_step >= self._every_n_steps:
            return True
        minutes = (time.monotonic() - self._saved_time) / 60
        return self._every_n_minutes is not None and minutes >= self._every_n_minutes

    def _save(self, trainer: Trainer, step: int) -> bool:
        """Write the state; whether the disk took it."""
        path = self.format_checkpoint_name({})
        trainer.save_checkpoint(path, weights_only=False)  # saves the optimizer too; loads no code
        self.best_model_path = path
        self.saved_step, self._saved_time = step, time.monotonic()
        return was_saved(trainer)


def _leave(stop: Stopped, *_: Any) -> None:
    raise stop


def _everywhere(trainer: Trainer) -> bool:
    """Whether every step is the last of its epoch or has a validation after it: then there is no better place."""
    return trainer.num_training_batches == 1 or trainer.val_check_batch == 1


def _validation_follows(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the trainer may validate right after this batch; a run that goes on from here would leave it out."""
    every = trainer.val_check_batch
    if not isinstance(every, int) or sum(trainer.num_val_batches) == 0:
        return False
    batches = batch_idx if trainer.check_val_every_n_epoch is not None else trainer.fit_loop.total_batch_idx
    return (batches + 1) % every == 0

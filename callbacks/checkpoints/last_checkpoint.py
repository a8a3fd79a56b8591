"""Callback for `last.ckpt`, the checkpoint that a run resumes from."""

import os
import time
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.arguments import require
from callbacks.checkpoints.file_names import END, LAST
from callbacks.checkpoints.run_checkpoint import RunCheckpoint
from callbacks.guards.stop_signals import Stopped, StopSignals, agree_on_signal
from callbacks.trainer_state import is_dry_run, was_saved


class LastCheckpoint(RunCheckpoint):
    """The newest checkpoint from which a run can resume exactly, saved at the end of an epoch or between two steps.

    | file                  | what                           | when                                                   |
    |-----------------------|--------------------------------|--------------------------------------------------------|
    | checkpoints/last.ckpt | everything needed for a resume | end of each epoch; every n steps or minutes; at a stop |

    If `max_steps` limits the run, Lightning would resume from the end of an epoch with a wrong step count. The
    checkpoint is then saved after the first step of the next epoch, and after the last step. That of the last step gets
    its name at the end of training, when the validation after it is finished. Within an epoch it is
    saved between two optimizer steps, unless a validation follows. `LastCheckpoint` must come after `BestCheckpoint` in
    the callback list, to save the newest state of that callback.
    """

    stops_for_signals = True  # StopSignals then does not stop the run itself

    def __init__(self, every_n_steps: int | None = None, every_n_minutes: float | None = None) -> None:
        super().__init__(LAST, monitor=None, mode="min")
        for name, value in (("save_every_steps", every_n_steps), ("save_every_minutes", every_n_minutes)):
            require(value is None or value > 0, name, "a number above 0, or null", value)
        self._every_n_steps, self._every_n_minutes = every_n_steps, every_n_minutes
        self._signals = StopSignals()
        self._last_step = self.saved_step = self._agreed_step = 0
        self._saved_time = time.monotonic()
        self._by_steps = self._checks_steps = self._saved_end = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        self._signals = next((each for each in callbacks if isinstance(each, StopSignals)), self._signals)
        self._last_step = self.saved_step = self._agreed_step = trainer.global_step
        self._saved_time = time.monotonic()
        self._by_steps = trainer.max_steps != -1
        periodic = self._every_n_steps is not None or self._every_n_minutes is not None
        self._checks_steps = self._by_steps or periodic or trainer.world_size > 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._signals.received is None and not self._checks_steps:
            return  # the fast path of nearly every step
        step = trainer.global_step
        if step == self._last_step or is_dry_run(trainer):
            return
        self._last_step = step
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return  # a checkpoint does not include accumulated gradients
        is_end = self._by_steps and step >= trainer.max_steps
        follows = trainer.is_last_batch or _validation_follows(trainer, batch_idx)
        if not is_end and follows and not (self._by_steps and _same_at_every_step(trainer)):
            return  # an epoch end or a validation follows
        received = self._signals.received
        is_first = self._by_steps and trainer.current_epoch > 0 and batch_idx < trainer.accumulate_grad_batches
        due = is_end or is_first or received is not None or self._due(step)
        if trainer.world_size > 1 and not (is_end or is_first):
            # All processes decide together. They wait for each other, so they do it only every tenth step.
            if step - self._agreed_step < 10:
                return
            self._agreed_step = step
            due = bool(trainer.strategy.reduce_boolean_decision(due, all=False))
        received = agree_on_signal(trainer, received) if due else None
        saved = due and (self._save_end(trainer) if is_end else self.save(trainer))
        if received is not None and not is_end:
            stop = Stopped(received, step, trainer.current_epoch, saved)
            if trainer.is_last_batch:
                raise stop
            # Raise it at the next hook, since the metrics of this step are not logged yet.
            self.set_step_hook("on_train_batch_start", partial(_raise, stop))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._by_steps and trainer.global_step and not is_dry_run(trainer):
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.finish(trainer)

    def finish(self, trainer: Trainer) -> None:
        """Save the checkpoint of a run with `max_steps`, whatever ended it."""
        self.set_step_hook("on_train_batch_start", None)
        if self._saved_end:
            self._name_end(trainer)
        if self._by_steps and self.saved_step != trainer.global_step and not is_dry_run(trainer):
            self.save(trainer)

    def save(self, trainer: Trainer) -> bool:
        saved = super().save(trainer)
        self.saved_step, self._saved_time = trainer.global_step, time.monotonic()
        return saved

    def _save_end(self, trainer: Trainer) -> bool:
        """Save the state after the last step; a run killed in the validation that follows repeats the last steps."""
        trainer.save_checkpoint(os.path.join(self.dirpath, END), weights_only=False)
        saved = bool(trainer.strategy.broadcast(was_saved(trainer, END)))
        self._saved_end = saved
        if saved:
            self.saved_step = trainer.global_step
        return saved

    def _name_end(self, trainer: Trainer) -> None:
        """Save the state after the last step as last.ckpt, with the callbacks' states after the last validation."""
        self._saved_end, path = False, os.path.join(self.dirpath, END)
        self.best_model_path = self.path
        if trainer.is_global_zero and os.path.isfile(path):
            plugin, callbacks = trainer.strategy.checkpoint_io, trainer.callbacks  # type: ignore[attr-defined]
            content = plugin.load_checkpoint(path, map_location="cpu", weights_only=True)
            content["callbacks"] |= {each.state_key: state for each in callbacks if (state := each.state_dict())}
            plugin.save_checkpoint(content, self.path)
            os.remove(path)
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)  # type: ignore[arg-type]
        trainer.strategy.barrier(LAST)

    def _due(self, step: int) -> bool:
        if self._every_n_steps is not None and step - self.saved_step >= self._every_n_steps:
            return True
        minutes = (time.monotonic() - self._saved_time) / 60
        return self._every_n_minutes is not None and minutes >= self._every_n_minutes


def _raise(stop: Stopped, *_: Any) -> None:
    raise stop


def _same_at_every_step(trainer: Trainer) -> bool:
    """Return True if every step ends an epoch or precedes a validation, so that no step is better for saving."""
    return trainer.num_training_batches == 1 or trainer.val_check_batch == 1


def _validation_follows(trainer: Trainer, batch_idx: int) -> bool:
    """Return True if validation may follow this batch; a run that resumes from here would skip that validation."""
    interval = trainer.val_check_batch
    if not isinstance(interval, int) or sum(trainer.num_val_batches) == 0:
        return False
    batches = batch_idx if trainer.check_val_every_n_epoch is not None else trainer.fit_loop.total_batch_idx
    return (batches + 1) % interval == 0

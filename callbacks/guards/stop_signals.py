"""SIGTERM, Ctrl-C and SLURM's warning set a flag; the run ends at the next step, with everything saved."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import is_dry_run

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))


class Stopped(Exception):  # noqa: N818 - says what happened
    """Training was asked to end and did; `saved` tells whether last.ckpt holds the state of that step."""

    def __init__(self, number: int, step: int, epoch: int, saved: bool) -> None:
        self.number, self.step, self.epoch, self.saved = number, step, epoch, saved
        super().__init__(f"stopped by {name_of(number)} at optimizer step {step:,} (epoch {epoch + 1})")


def name_of(number: int) -> str:
    """As people call it."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


class StopSignals(NoStepHooks, Callback):
    """Holds the signal that asked this process to end, from the first step of a fit to its last.

    Nothing is done within the handler but to note it: `LastCheckpoint` saves and raises `Stopped` once the step is
    through, on all processes at the same one. During a validation that is after it. A second Ctrl-C leaves at once.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._saved_for = False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.asked = None
        # Whether a LastCheckpoint is there to save and to stop the run.
        self._saved_for = any(
            getattr(callback, "stops_for_signals", False) for callback in trainer.checkpoint_callbacks
        )
        self.on_train_batch_end = None if self._saved_for else self._leave
        if is_dry_run(trainer):
            return
        if threading.current_thread() is not threading.main_thread():  # only there can a handler be set
            return
        # Not before: the trainer sets handlers of its own, which would save nothing.
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Between two epochs, where last.ckpt was just written; not where `max_steps` ends the run."""
        asked = agreed(trainer, self.asked)
        if asked is not None and self._saved_for and trainer.current_epoch and trainer.max_steps == -1:
            raise Stopped(asked, trainer.global_step, trainer.current_epoch - 1, was_saved(trainer))

    def _leave(self, trainer: Trainer, *_: Any) -> None:
        asked = agreed(trainer, self.asked)
        if asked is not None:
            raise Stopped(asked, trainer.global_step, trainer.current_epoch, saved=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._put_back()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._put_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._put_back()

    def _note(self, number: int, frame: Any) -> None:
        again = self.asked is not None and number == signal.SIGINT
        self.asked = number if self.asked is None else self.asked
        if again:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            os.write(2, b"\nStopping after this step; Ctrl-C again leaves at once.\n")  # safe within a handler

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def was_saved(trainer: Trainer, name: str = "last.ckpt") -> bool:
    """Whether the disk took this checkpoint the last time that it was written."""
    failed: dict[Path, str] = getattr(trainer.strategy.checkpoint_io, "failed", {})
    return not any(path.name == name for path in failed)


def agreed(trainer: Trainer, asked: int | None) -> int | None:
    """The signal that any process got: the same answer on all of them, which must ask together."""
    if trainer.world_size == 1:
        return asked
    import torch

    highest = trainer.strategy.reduce(torch.tensor(asked or 0, device=trainer.strategy.root_device), reduce_op="max")
    return int(highest) or None

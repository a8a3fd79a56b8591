"""Callback and exception for stops by SIGTERM, Ctrl-C and SLURM's warning signal."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.checkpoints.file_names import LAST
from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import is_dry_run, is_fitting, was_saved

#: Signals that stop a run. A signal that the parent process ignores, as under `nohup`, stays ignored.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)


def stop_signals() -> tuple[int, ...]:
    """Return the signals that this process can handle: none outside of the main thread, none that is ignored."""
    if threading.current_thread() is not threading.main_thread():
        return ()
    return tuple(number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN)


class Stopped(Exception):  # noqa: N818 - a requested stop is not an error
    """Exception for a run that a signal stopped; `saved` is True if last.ckpt was saved at that step."""

    def __init__(self, number: int, step: int, epoch: int, saved: bool) -> None:
        self.number, self.step, self.epoch, self.saved = number, step, epoch, saved
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {name} at optimizer step {step:,} (epoch {epoch + 1})")


class CallersSignals(NoStepHooks, Callback):
    """Callback that keeps the signal handlers of the caller, such as those of the command line, outside of training.

    During a fit or a test, the Trainer has its own handler of SIGTERM, which only sets a flag.
    """

    def __init__(self) -> None:
        self._callers: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remember the handlers before the Trainer sets its own."""
        self._callers = {number: signal.getsignal(number) for number in stop_signals()}

    def restore(self, *_: Any, **__: Any) -> None:
        """Set the caller's handlers."""
        for number, handler in self._callers.items():
            signal.signal(number, handler)

    on_sanity_check_start = on_test_start = on_predict_start = restore

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_fitting(trainer):
            self.restore()


class StopSignals(CallersSignals):
    """Handler of stop signals from the first to the last training step.

    The handler only records the signal. `LastCheckpoint` saves the checkpoint and raises `Stopped` after the current
    step or validation, on all processes at the same step. A second Ctrl-C stops immediately.
    """

    def __init__(self) -> None:
        super().__init__()
        self.received: int | None = None
        self._checkpoint_stops = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.received = None
        self._checkpoint_stops = any(
            getattr(callback, "stops_for_signals", False) for callback in trainer.checkpoint_callbacks
        )
        self.set_step_hook("on_train_batch_end", None if self._checkpoint_stops else self._stop)
        if not is_dry_run(trainer):
            for number in self._callers:
                signal.signal(number, self._record)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop between two epochs, after last.ckpt was saved; with `max_steps`, `LastCheckpoint` stops instead."""
        received = agree_on_signal(trainer, self.received)
        if received is not None and self._checkpoint_stops and trainer.current_epoch and trainer.max_steps == -1:
            raise Stopped(received, trainer.global_step, trainer.current_epoch - 1, was_saved(trainer, LAST))

    def _stop(self, trainer: Trainer, *_: Any) -> None:
        received = agree_on_signal(trainer, self.received)
        if received is not None:
            raise Stopped(received, trainer.global_step, trainer.current_epoch, saved=False)

    on_train_end = teardown = on_exception = CallersSignals.restore

    def _record(self, number: int, frame: Any) -> None:
        is_repeated = self.received is not None
        self.received = self.received or number
        if number == signal.SIGINT:
            if is_repeated:
                raise KeyboardInterrupt
            # Unlike print, os.write is safe within a signal handler.
            os.write(2, b"\nStopping after this step; press Ctrl-C again to stop immediately.\n")


def agree_on_signal(trainer: Trainer, received: int | None) -> int | None:
    """Return the signal that a process received, on all processes; call it on every process at the same step."""
    if trainer.world_size == 1:
        return received
    import torch

    device = trainer.strategy.root_device
    return int(trainer.strategy.reduce(torch.tensor(received or 0, device=device), reduce_op="max")) or None

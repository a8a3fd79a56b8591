"""Orderly stops on SIGTERM, Ctrl-C and SLURM's warning signal."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.checkpoints.run_checkpoint import LAST
from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import is_dry_run

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))


class Stopped(Exception):  # noqa: N818 - a requested stop is not an error
    """Exception for a training that a signal stopped; `saved` is True if last.ckpt holds the state of that step."""

    def __init__(self, number: int, step: int, epoch: int, saved: bool) -> None:
        self.number, self.step, self.epoch, self.saved = number, step, epoch, saved
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {name} at optimizer step {step:,} (epoch {epoch + 1})")


class StopSignals(NoStepHooks, Callback):
    """Handler of stop signals from the first to the last step of a fit.

    The signal handler only records the signal. `LastCheckpoint` saves and raises `Stopped` after the current step, on
    all processes at the same step; during validation, after it ends. A second Ctrl-C stops immediately.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._checkpoint_stops = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.received = None
        self._checkpoint_stops = any(
            getattr(callback, "stops_for_signals", False) for callback in trainer.checkpoint_callbacks
        )
        self.set_step_hook("on_train_batch_end", None if self._checkpoint_stops else self._stop)
        # Python accepts signal handlers in the main thread only.
        if is_dry_run(trainer) or threading.current_thread() is not threading.main_thread():
            return
        # Not earlier: the trainer sets handlers of its own, which save nothing.
        self._handlers = {number: signal.signal(number, self._record) for number in _SIGNALS}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop between two epochs, just after last.ckpt was saved; not if `max_steps` ends the run."""
        received = agree_on_signal(trainer, self.received)
        if received is not None and self._checkpoint_stops and trainer.current_epoch and trainer.max_steps == -1:
            raise Stopped(received, trainer.global_step, trainer.current_epoch - 1, was_saved(trainer))

    def _stop(self, trainer: Trainer, *_: Any) -> None:
        received = agree_on_signal(trainer, self.received)
        if received is not None:
            raise Stopped(received, trainer.global_step, trainer.current_epoch, saved=False)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    teardown = on_exception = on_train_end

    def _record(self, number: int, frame: Any) -> None:
        again = self.received is not None and number == signal.SIGINT
        self.received = number if self.received is None else self.received
        if again:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            # Unlike print, os.write is safe within a signal handler.
            os.write(2, b"\nStopping after this step; press Ctrl-C again to stop immediately.\n")


def was_saved(trainer: Trainer, name: str = LAST) -> bool:
    """Return True unless the last attempt to save this checkpoint failed."""
    failed: dict[Path, str] = getattr(trainer.strategy.checkpoint_io, "failed", {})
    return not any(path.name == name for path in failed)


def agree_on_signal(trainer: Trainer, received: int | None) -> int | None:
    """Return the signal that any process received; call it on every process at the same step."""
    if trainer.world_size == 1:
        return received
    import torch

    device = trainer.strategy.root_device
    return int(trainer.strategy.reduce(torch.tensor(received or 0, device=device), reduce_op="max")) or None

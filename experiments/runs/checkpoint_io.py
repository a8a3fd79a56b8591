"""Plugin that saves checkpoints atomically: the new file is complete, or the previous one remains."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from callbacks import NoStepHooks, atomic_write
from callbacks.checkpoints.content_stamp import stamped
from callbacks.trainer_state import is_dry_run
from experiments.messages.formatting import say, shown
from experiments.version import CHECKPOINT_FORMAT, VERSION


class AtomicCheckpointIO(TorchCheckpointIO):
    """Plugin that adds litlab's version and a SHA-256 to a checkpoint, writes a temporary file and renames it.

    If writing fails (disk full, removed, or read-only), it prints a warning and keeps the previous checkpoint, and
    training continues. `failed` maps each path that could not be written to the reason.
    """

    def __init__(self) -> None:
        self.failed: dict[Path, str] = {}
        self._rehearses = False

    def rehearse(self, trainer: Trainer) -> None:
        """Save the whole state in memory and load it; raise an error that names what cannot be loaded."""
        if isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):  # others write several files
            self._rehearses = True
            try:
                trainer.save_checkpoint("rehearsal", weights_only=False)
            finally:
                self._rehearses = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save the checkpoint, or print why saving failed."""
        target = Path(path)
        content = stamped(checkpoint, {"version": VERSION, "format": CHECKPOINT_FORMAT})
        if self._rehearses:
            buffer = io.BytesIO()
            torch.save(content, buffer)
            buffer.seek(0)
            torch.load(buffer, weights_only=True)
            return
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(target) as file:
                torch.save(content, file)
        except (OSError, RuntimeError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__ or error.__context__
            if not isinstance(cause, OSError):
                raise
            self.failed[target] = cause.strerror or str(cause)
            previous = "the previous checkpoint was kept" if target.is_file() else "there is none yet"
            say(
                f"litlab: {shown(target)} could not be written ({self.failed[target]}); {previous}. Training continues."
            )
        else:
            self.failed.pop(target, None)


class CheckpointRehearsal(NoStepHooks, Callback):
    """Callback that checks before the first step that a checkpoint of this run can be loaded."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        plugin = trainer.strategy.checkpoint_io
        if isinstance(plugin, AtomicCheckpointIO) and not is_dry_run(trainer) and trainer.checkpoint_callbacks:
            plugin.rehearse(trainer)

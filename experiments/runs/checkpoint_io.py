"""Plugin that saves checkpoints atomically: the new file is complete, or the previous one remains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from callbacks import atomic_write
from callbacks.checkpoints.content_stamp import stamped
from experiments.messages.formatting import say, shown
from experiments.version import CHECKPOINT_FORMAT, VERSION


class AtomicCheckpointIO(TorchCheckpointIO):
    """Plugin that adds litlab's version and a SHA-256 to a checkpoint, writes a temporary file and renames it.

    If writing fails (disk full, removed, or read-only), it prints a warning and keeps the previous checkpoint, and
    training continues. `failed` maps each path that could not be written to the reason.
    """

    def __init__(self) -> None:
        self.failed: dict[Path, str] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save the checkpoint, or print why saving failed."""
        target = Path(path)
        content = stamped(checkpoint, {"version": VERSION, "format": CHECKPOINT_FORMAT})
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

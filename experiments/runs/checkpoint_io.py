"""Checkpoints reach the disk whole, or the old one stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from callbacks import whole_file
from experiments.messages.text import say, shown
from experiments.runs.checkpoint import STAMP, stamp


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint, with litlab's version in it, beside its place, waits for the disk, and renames it.

    Where the disk refuses (full, gone, read-only), training goes on with the checkpoint of before, and that is said.
    """

    def __init__(self) -> None:
        self.failed: dict[Path, str] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save, or say why not."""
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target) as file:
                torch.save({**checkpoint, STAMP: stamp()}, file)
        except (OSError, RuntimeError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__ or error.__context__
            if not isinstance(cause, OSError):
                raise
            self.failed[target] = cause.strerror or str(cause)
            kept = "the one of before stays" if target.is_file() else "there is none yet"
            say(f"litlab: {shown(target)} could not be written ({self.failed[target]}); {kept}. Training goes on.")
        else:
            self.failed.pop(target, None)

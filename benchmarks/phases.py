"""Report the current phase of a run to `crash.py` through the file in LITLAB_PHASE_FILE."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Phases(Callback):
    """Callback that writes `step N` before each training step and `validation N` before each validation batch."""

    def __init__(self) -> None:
        self._path = Path(os.environ["LITLAB_PHASE_FILE"])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._path.write_text(f"step {trainer.global_step}")

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not trainer.sanity_checking:
            self._path.write_text(f"validation {trainer.global_step} {batch_idx}")
            time.sleep(0.02)  # a tiny validation would finish before a signal arrives

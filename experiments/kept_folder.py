"""A run folder that is deleted while its run trains is made anew, so that the run can go on after a stop."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks import NoStepHooks
from experiments.run_folder import RunFolder
from experiments.words import say, shown


class KeptFolder(NoStepHooks, Callback):
    """Holds the settings of a run in memory and looks for them before each checkpoint is written."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._files: dict[str, bytes] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            paths = (self._folder.config, self._folder.environment)
            self._files = {path.name: path.read_bytes() for path in paths if path.is_file()}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not trainer.is_global_zero:
            return
        try:
            restored = self._folder.restore(self._files)
        except OSError:
            return  # the checkpoint will say so
        if restored:
            say(
                f"litlab: {shown(self._folder.path)} was deleted while the run trains. It is made anew with settings "
                f"and checkpoints; figures before step {trainer.global_step:,} are lost."
            )

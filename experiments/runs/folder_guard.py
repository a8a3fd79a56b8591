"""Callback that ends a run if its folder was deleted, before anything is written there again."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks import NoStepHooks
from experiments.messages.errors import RunLost
from experiments.messages.formatting import shown
from experiments.runs.folder import RunFolder, file_version


class FolderGuard(NoStepHooks, Callback):
    """Callback that raises RunLost before a checkpoint and at the end if the folder no longer belongs to the run."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._identity = folder, folder.identity()
        self._version: tuple[int, int] | None = None

    def lost(self) -> str:
        """Return what happened to the folder, or "" if it still belongs to the run.

        Reads environment.json only if the file has changed since the last call.
        """
        if self._identity is None:
            return ""
        try:
            version = file_version(self._folder.environment)
        except OSError:  # disk access failed, which the next write reports
            return ""
        if version is None:
            return "was deleted while its run was training"
        if version != self._version and self._folder.identity() not in (None, self._identity):
            return "was deleted while its run was training, and another run has its name now"
        self._version = version
        return ""

    def check(self) -> None:
        """Raise RunLost if the folder no longer belongs to the run."""
        if lost := self.lost():
            folder = self._folder.path
            where = self._folder.environment if folder.is_dir() and "another" not in lost else folder
            raise RunLost(f"{shown(where)} {lost}. Training has stopped; start the run again.")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.is_global_zero:
            self.check()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.check()

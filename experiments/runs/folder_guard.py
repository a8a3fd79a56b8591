"""A run folder that is deleted while its run trains is made anew, so that the run can go on after a stop."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks import NoStepHooks, TrainingFailed
from experiments.messages.text import say, shown
from experiments.runs.folder import RunFolder


class FolderTaken(TrainingFailed):
    """The folder of this name is another run's by now: nothing in it may be touched."""


class Owner:
    """Tells whether a run folder is still the run's own, and not another's that took its name when it was deleted."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._identity = folder, folder.identity()
        self._seen: tuple[int, int] | None = None
        self._taken = False

    def taken(self) -> bool:
        """Reads the folder's environment.json only where that is another file than the last time."""
        try:
            found = os.stat(self._folder.environment)
            seen = (found.st_ino, found.st_mtime_ns)
        except OSError:
            return False
        if seen != self._seen:
            self._seen = seen
            self._taken = self._identity is not None and self._folder.identity() not in (None, self._identity)
        return self._taken

    def check(self) -> None:
        """Raise FolderTaken where it is another's."""
        if self.taken():
            raise FolderTaken(
                f"{shown(self._folder.path)} was deleted while this run trains, and another run has taken its place. "
                "This one ends, so that they do not mix; start it again."
            )


class KeptFolder(NoStepHooks, Callback):
    """Holds the settings of a run in memory and looks for its folder before each checkpoint is written.

    Where another run has taken the number meanwhile, it raises FolderTaken: two runs never share a folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._owner = folder, Owner(folder)
        self._files: dict[str, bytes] = {}
        self._lock = ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            paths = (self._folder.config, self._folder.environment)
            self._files = {path.name: path.read_bytes() for path in paths if path.is_file()}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self._files:
            return
        self._owner.check()
        try:
            if self._folder.restore(self._files):
                self._lock.close()
                self._lock.enter_context(self._folder.held())
                say(
                    f"litlab: {shown(self._folder.path)} was deleted while the run trains. It is made anew with "
                    f"settings and checkpoints; figures before step {trainer.global_step:,} are lost."
                )
        except OSError:
            return  # the checkpoint will say so

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._lock.close()

"""A run folder that is deleted while its run trains is made anew, so that the run can go on after a stop."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks import NoStepHooks, TrainingFailed
from experiments.run_folder import RunFolder
from experiments.words import say, shown


class FolderTaken(TrainingFailed):
    """The folder of this name is another run's by now: nothing in it may be touched."""


class KeptFolder(NoStepHooks, Callback):
    """Holds the settings of a run in memory and looks for its folder before each checkpoint is written.

    Where another run has taken the number meanwhile, it raises FolderTaken: two runs never share a folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._files: dict[str, bytes] = {}
        self._identity: list[Any] | None = None
        self._lock = ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            paths = (self._folder.config, self._folder.environment)
            self._files = {path.name: path.read_bytes() for path in paths if path.is_file()}
            self._identity = self._folder.identity()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not trainer.is_global_zero or self._identity is None:
            return
        if self._folder.identity() not in (None, self._identity):
            raise FolderTaken(
                f"{shown(self._folder.path)} was deleted while this run trains, and another run has taken its place. "
                "This one ends, so that they do not mix; start it again."
            )
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

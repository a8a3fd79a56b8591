"""Base class of the checkpoints of a run."""

import os
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from callbacks.checkpoints.file_names import CHECKPOINTS
from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import was_saved


class RunCheckpoint(NoStepHooks, Checkpoint):
    """Checkpoint with a fixed file name in `<default_root_dir>/checkpoints`.

    Attributes and keys are named as in Lightning's `ModelCheckpoint`, since loggers read them and checkpoints of
    earlier versions contain them.
    """

    save_top_k = 1

    def __init__(self, filename: str, monitor: str | None, mode: str) -> None:
        self.filename, self.monitor, self.mode = filename, monitor, mode
        self.dirpath = self.best_model_path = ""
        self.best_model_score: Tensor | None = None

    @property
    def state_key(self) -> str:
        arguments: dict[str, Any] = {"monitor": self.monitor, "mode": self.mode}
        arguments |= {"every_n_train_steps": 0, "every_n_epochs": 1, "train_time_interval": None}
        return f"{type(self).__qualname__}{arguments!r}"

    @property
    def path(self) -> str:
        """Path of the checkpoint file."""
        return os.path.join(self.dirpath, self.filename)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.dirpath = trainer.strategy.broadcast(os.path.join(trainer.default_root_dir, CHECKPOINTS))

    def save(self, trainer: Trainer) -> bool:
        """Save the checkpoint and notify the loggers; call it on every process. Return True on success."""
        self.best_model_path = self.path
        trainer.save_checkpoint(self.path, weights_only=False)  # saves the optimizer too; loads no code
        saved = trainer.strategy.broadcast(was_saved(trainer, self.filename))
        if saved and trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)  # type: ignore[arg-type]
        return saved

    def state_dict(self) -> dict[str, Any]:
        names = ("monitor", "dirpath", "best_model_path", "best_model_score")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore path and score if the file is in this run folder, which may have been moved."""
        if state_dict["best_model_path"] and os.path.isfile(self.path):
            self.best_model_path, self.best_model_score = self.path, state_dict["best_model_score"]

"""Callbacks that look at all predictions once, when a command is through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.step_hooks import NoStepHooks
from callbacks.support import is_dry_run, is_fitting


class EndFigures(NoStepHooks, Callback, ABC):
    """Calls `draw` at the end of fit (`val`: validation part, last weights), validate and test; not in a trial."""

    @abstractmethod
    def draw(self, trainer: Trainer, module: LightningModule, stage: str, loaders: Any, limits: Any) -> None:
        """Draw the predictions for `loaders`, of each of which the trainer takes `limits` batches; on all processes."""

    def fit_data(self, trainer: Trainer) -> tuple[Any, Any]:
        """Loaders and their limits at the end of fit."""
        return trainer.val_dataloaders, trainer.num_val_batches

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "val", *self.fit_data(trainer))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_fitting(trainer):
            self._draw(trainer, pl_module, "validate", trainer.val_dataloaders, trainer.num_val_batches)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "test", trainer.test_dataloaders, trainer.num_test_batches)

    def _draw(self, trainer: Trainer, module: LightningModule, stage: str, loaders: Any, limits: Any) -> None:
        if not is_dry_run(trainer):
            self.draw(trainer, module, stage, loaders, limits)

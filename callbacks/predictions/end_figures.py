"""Callbacks that look at all predictions once, when a command is through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.forward import told
from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import from_all, is_dry_run, is_fitting


class EndFigures(NoStepHooks, Callback, ABC):
    """Draws at the end of fit (`val`: validation part, last weights), validate and test; not in a trial.

    What goes wrong on the way is told, and nothing ends by it: no picture is worth a training.
    """

    @abstractmethod
    def collect(self, trainer: Trainer, module: LightningModule, loaders: Any, limits: Any) -> Any:
        """What this process sees in `loaders`, of which the trainer takes so many batches each; None for nothing."""

    @abstractmethod
    def draw(self, trainer: Trainer, module: LightningModule, stage: str, parts: list[Any]) -> None:
        """On the first process, with what all of them collected; at least one part, none of them None."""

    @abstractmethod
    def unfit(self, module: LightningModule) -> str:
        """What to say where nothing could be collected."""

    def fit_data(self, trainer: Trainer) -> tuple[Any, Any]:
        """Loaders and their limits at the end of fit."""
        return trainer.val_dataloaders, trainer.num_val_batches

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run(trainer, pl_module, "val", *self.fit_data(trainer))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_fitting(trainer):
            self._run(trainer, pl_module, "validate", trainer.val_dataloaders, trainer.num_val_batches)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run(trainer, pl_module, "test", trainer.test_dataloaders, trainer.num_test_batches)

    def _run(self, trainer: Trainer, module: LightningModule, stage: str, loaders: Any, limits: Any) -> None:
        if is_dry_run(trainer):
            return
        if not sum(limits):
            trainer.print(f"{type(self).__name__}: without a validation part there is nothing to draw.")
            return
        name, own, failed = type(self).__name__, None, True
        with told(name, f"the figures of {stage}"):
            own = self.collect(trainer, module, loaders, limits)
            failed = False
        parts = [
            part for part in from_all(trainer, own) if part is not None
        ]  # all processes come here, whatever failed
        if not trainer.is_global_zero:
            return
        if parts:
            with told(name, f"the figures of {stage}"):
                self.draw(trainer, module, stage, parts)
        elif not failed:
            rank_zero_warn(f"{name}: {self.unfit(module)}")

"""Base class of callbacks that plot all predictions once, at the end of a command."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.forward import warn_on_error
from callbacks.step_hooks import Observer
from callbacks.trainer_state import gather_objects, is_dry_run, is_fitting


class EndFigures(Observer, ABC):
    """Plots at the end of fit (`val`: validation split, final weights), validate and test; not under `fast_dev_run`.

    An error in a subclass becomes a warning, so that a failed figure does not end the command.
    """

    @abstractmethod
    def collect(self, trainer: Trainer, module: LightningModule, loaders: Any, limits: Any) -> Any:
        """Return the predictions of this process for the first `limits` batches of each loader, or None."""

    @abstractmethod
    def plot(self, trainer: Trainer, module: LightningModule, stage: str, parts: list[Any]) -> None:
        """Plot on rank 0 what the processes collected: one or more parts, none of them None."""

    @abstractmethod
    def unsupported(self, module: LightningModule) -> str:
        """Return the warning if no process collected anything."""

    def fit_data(self, trainer: Trainer) -> tuple[Any, Any]:
        """Return the loaders and their limits at the end of fit."""
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
            trainer.print(f"{type(self).__name__}: skipped, since the run has no validation split.")
            return
        name, own, failed = type(self).__name__, None, True
        with warn_on_error(name, f"the figures of {stage}"):
            own = self.collect(trainer, module, loaders, limits)
            failed = False
        # All processes gather, even if one failed to collect.
        parts = [part for part in gather_objects(trainer, own) if part is not None]
        if not trainer.is_global_zero:
            return
        if parts:
            with warn_on_error(name, f"the figures of {stage}"):
                self.plot(trainer, module, stage, parts)
        elif not failed:
            rank_zero_warn(f"{name}: {self.unsupported(module)}")

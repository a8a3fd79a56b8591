"""Base class of callbacks that plot all predictions once, at the end of a command."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import chain
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from callbacks.checkpoints.best_weights import best_weights
from callbacks.figures.plotting import source_line
from callbacks.forward import predictions, warn_on_error
from callbacks.step_hooks import Observer
from callbacks.trainer_state import gather_objects, is_dry_run, is_fitting


class EndFigures(Observer, ABC):
    """Figures at the end of fit (`val`: validation split, weights of best.ckpt), validate and test.

    A run without best.ckpt plots the last weights. Each figure names run, data, split and epoch of the weights.

    Nothing is plotted under `fast_dev_run`. An error in a subclass becomes a warning, so that a failed figure does not
    end the command.
    """

    source = ""  # run, data, split and epoch of the figures
    _loaded: str = ""

    unsupported = ""  # the warning, without the name of the callback, if `add` supports no batch

    @abstractmethod
    def add(self, collected: Any, inputs: Tensor, output: dict[str, Tensor]) -> Any:
        """Return `collected` (None at first) with the output of `predict_step` for a batch; None if unsupported."""

    @abstractmethod
    def plot(self, trainer: Trainer, module: LightningModule, stage: str, gathered: list[Any]) -> None:
        """Plot on rank 0; `gathered` contains what each process collected, without None."""

    def fit_data(self, trainer: Trainer) -> tuple[Any, Any]:
        """Return the loaders to plot at the end of fit, and the maximum number of batches of each."""
        return trainer.val_dataloaders, trainer.num_val_batches

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._loaded = ""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._loaded = f"epoch {checkpoint['epoch'] + 1}"

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loaders, limits = self.fit_data(trainer)
        split = "train" if loaders is trainer.train_dataloader else "validation"
        name = type(self).__name__
        if is_dry_run(trainer):
            return
        with warn_on_error(name, "the figures of val"), best_weights(trainer, pl_module) as weights:
            self.source = source_line(trainer, split, weights)
            self._run(trainer, pl_module, "val", loaders, limits)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_fitting(trainer):
            self.source = source_line(trainer, "validation", self._loaded)
            self._run(trainer, pl_module, "validate", trainer.val_dataloaders, trainer.num_val_batches)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.source = source_line(trainer, "test", self._loaded)
        self._run(trainer, pl_module, "test", trainer.test_dataloaders, trainer.num_test_batches)

    def _run(self, trainer: Trainer, module: LightningModule, stage: str, loaders: Any, limits: Any) -> None:
        if is_dry_run(trainer):
            return
        name, model = type(self).__name__, type(module).__name__
        if not sum(limits):
            trainer.print(f"{name}: skipped, since the run has no validation split.")
            return
        collected, failed = None, True
        with warn_on_error(name, f"the figures of {stage}"):
            for inputs, output in predictions(trainer, module, loaders, limits):
                added = self.add(collected, inputs, output)
                if added is None:
                    break
                collected = added
            failed = False
        # All processes gather, even if one failed to collect.
        gathered = [each for each in gather_objects(trainer, collected) if each is not None]
        if gathered and trainer.is_global_zero:
            with warn_on_error(name, f"the figures of {stage}"):
                self.plot(trainer, module, stage, gathered)
        elif not gathered and not failed:
            rank_zero_warn(f"{name}: {self.unsupported.format(model)}, or remove the callback.")


def concatenated(gathered: list[list[tuple[Tensor, ...]]]) -> list[Tensor]:
    """Return one tensor per element of the tuples, from all batches of all processes."""
    return [torch.cat(values) for values in zip(*chain.from_iterable(gathered), strict=True)]

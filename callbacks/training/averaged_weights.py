"""A running average of the weights, which is what gets validated, kept and tested."""

from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from callbacks.trainer_state import is_fitting


class AveragedWeights(WeightAveraging):
    """Exponential moving average of weights and running statistics (Polyak and Juditsky 1992; Lightning's callback).

    Training goes on with the plain weights; validation, `best.ckpt` and `last.ckpt` hold the average, and the plain
    weights stand in the checkpoint beside it, to train on from.

    Args:
        decay: share of the old average that each update keeps, 0 to 1 (excluded). The average covers about
            every / (1 - decay) steps.
        every: optimizer steps from one update to the next.
        start_step: the first step that is averaged; before it the plain weights take the average's place.
    """

    def __init__(self, decay: float = 0.99, every: int = 1, start_step: int = 0) -> None:
        if not 0.0 <= decay < 1.0:
            raise MisconfigurationException(f"decay: {decay} is not possible. Give a number from 0 to 1 (1 excluded).")
        if every < 1 or start_step < 0:
            name, value, least = ("every", every, 1) if every < 1 else ("start_step", start_step, 0)
            raise MisconfigurationException(f"{name}: {value} is not possible. Give a whole number from {least} on.")
        super().__init__(avg_fn=self._average)
        self.decay, self.every, self.start_step = decay, every, start_step
        self._averaging = False

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After every `every` steps."""
        if step_idx is None:
            return False
        self._averaging = step_idx >= self.start_step
        return step_idx % self.every == 0

    def _average(self, average: Tensor, weight: Tensor, updates: Tensor | int) -> Tensor:
        if self._averaging and average.is_floating_point():
            return average.lerp(weight, 1 - self.decay)
        return weight

    # Lightning's callback swaps the weights in every validation, and puts the plain ones back in a test, also outside
    # `fit`: there the state that was loaded is the average already.

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_fitting(trainer):
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_fitting(trainer):
            super().on_validation_epoch_end(trainer, pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if is_fitting(trainer):
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

"""Callback that averages the weights during training; validation, test and checkpoints use the average."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from callbacks.arguments import require
from callbacks.trainer_state import is_fitting


class AveragedWeights(WeightAveraging):
    """Exponential moving average of weights and running statistics (Polyak and Juditsky 1992).

    Training uses the plain weights, validation uses the average. `best.ckpt` and `last.ckpt` contain the average, and
    next to it the plain weights for a resume.

    Args:
        decay: weight of the previous average in each update, in [0, 1). The average covers about
            every / (1 - decay) steps.
        every: number of optimizer steps between updates.
        start_step: first optimizer step in the average. Until then, the average equals the plain weights.
    """

    changes_training = True

    def __init__(self, decay: float = 0.99, every: int = 1, start_step: int = 0) -> None:
        require(0.0 <= decay < 1.0, "AveragedWeights.decay", "at least 0 and below 1", decay)
        require(every >= 1, "AveragedWeights.every", "1 or more", every)
        require(start_step >= 0, "AveragedWeights.start_step", "0 or more", start_step)
        super().__init__(avg_fn=self._average)
        self.decay, self.every, self.start_step = decay, every, start_step
        self._averaging = False

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return True for every `every`-th optimizer step."""
        if step_idx is None:
            return False
        self._averaging = step_idx >= self.start_step
        return step_idx % self.every == 0

    def _average(self, average: Tensor, weight: Tensor, updates: Tensor | int) -> Tensor:
        if self._averaging and average.is_floating_point():
            return average.lerp(weight, 1 - self.decay)
        return weight

    # Lightning's callback swaps the weights in every validation. Outside `fit`, the loaded weights are the average.

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_fitting(trainer):
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_fitting(trainer):
            super().on_validation_epoch_end(trainer, pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if is_fitting(trainer):
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

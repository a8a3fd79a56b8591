"""Callback that averages the weights during training; validation, test and checkpoints use the average."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from callbacks.arguments import require
from callbacks.trainer_state import is_fitting


class AveragedWeights(WeightAveraging):
    """Exponential moving average of weights and running statistics (Polyak and Juditsky 1992).

    The average starts with the weights after optimizer step `start_step`, counted from 0, and is updated every `every`
    steps. Training uses the plain weights. Until the average starts, validation, `best.ckpt` and `last.ckpt` use the
    plain weights too. From then on they use the newest average, and the checkpoints also contain the plain weights for
    a resume.

    Args:
        decay: weight of the previous average in each update, in [0, 1). The average covers about
            every / (1 - decay) steps.
        every: number of optimizer steps between updates.
        start_step: first optimizer step in the average.
    """

    changes_training = True

    def __init__(self, decay: float = 0.99, every: int = 1, start_step: int = 0) -> None:
        require(0.0 <= decay < 1.0, "AveragedWeights.decay", "at least 0 and below 1", decay)
        require(every >= 1, "AveragedWeights.every", "1 or more", every)
        require(start_step >= 0, "AveragedWeights.start_step", "0 or more", start_step)
        super().__init__(avg_fn=self._average)
        self.decay, self.every, self.start_step = decay, every, start_step

    @property
    def _newest(self) -> int:
        """Number of optimizer steps at the newest update."""
        return int(self.state_dict()["latest_update_step"])

    @property
    def _started(self) -> bool:
        """True if the average contains a step."""
        return self._newest > self.start_step

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return True if an update is due since the newest one; a batch may contain several optimizer steps."""
        if step_idx is None or step_idx < self.start_step:
            return False
        newest = self._newest - 1 - self.start_step  # below 0 before the first update
        return (step_idx - self.start_step) // self.every > newest // self.every

    def _average(self, average: Tensor, weight: Tensor, updates: Tensor | int) -> Tensor:
        if self._started and average.is_floating_point():
            return average.lerp(weight, 1 - self.decay)
        return weight

    # Lightning's callback uses the average in every validation and checkpoint, also before it starts. Outside `fit`,
    # the loaded weights are the average.

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_fitting(trainer) and self._started:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_fitting(trainer) and self._started:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        plain = checkpoint["state_dict"]
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if not self._started:
            checkpoint["state_dict"] = plain

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if is_fitting(trainer):
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing: a checkpoint of the last step, which is saved in this hook, also contains the plain weights."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the average to the model."""
        if self._started:
            super().on_train_end(trainer, pl_module)

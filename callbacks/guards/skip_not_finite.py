"""Training goes on past batches that give NaN."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.nn.utils import get_total_norm

from callbacks.guards.finite_loss import FiniteLoss, TrainingFailed, samples_words


class SkipNotFinite(FiniteLoss):
    """Leaves out optimizer steps whose gradients are NaN or infinite, as if their batches were not there.

    Weights, the optimizer's state and buffers such as BatchNorm's stay as before the step; means such as `train/loss`
    leave out batches whose own loss is so. Schedules and the count of steps go on. Each step waits for the device. Ten
    in a row raise TrainingFailed; validation losses and weights are looked at as by `FiniteLoss`. Under 16-mixed the
    gradient scaler leaves steps out by itself.
    """

    most_in_a_row = 10

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0
        self._in_a_row = 0
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._first = self._batch = 0  # batches of the running step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in trainer.optimizers):
            raise MisconfigurationException("not_finite: skip is not possible with LBFGS. Give stop.")
        if getattr(pl_module, "steps_per_call", 1) > 1:
            raise MisconfigurationException("not_finite: skip is not possible with steps_per_call. Give stop.")
        measured = getattr(pl_module, "train_metrics", None)
        if measured is not None:
            measured.finite_only = True
        self.skipped = self._in_a_row = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._batch = batch_idx
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._first = batch_idx
            self._buffers = [(buffer, buffer.detach().clone()) for buffer in pl_module.buffers()]

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        # Across processes gradients are the same by now, so that all decide alike.
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients or bool(torch.isfinite(get_total_norm(gradients))):
            self._in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)  # an optimizer passes over what has no gradient
        for buffer, before in self._buffers:
            buffer.copy_(before)
        self.skipped += 1
        self._in_a_row += 1
        step, samples = trainer.global_step + 1, samples_words(trainer, range(self._first, self._batch + 1))
        if self._in_a_row == self.most_in_a_row:
            raise TrainingFailed(
                f"The gradients of the last {self._in_a_row} steps were NaN or infinite, up to optimizer step {step} "
                f"(epoch {trainer.current_epoch + 1}); that is more than some bad batches. {samples}Try a smaller "
                "learning rate, or look at the data."
            )
        if self.skipped <= 3:
            rest = "Further ones are counted, not listed." if self.skipped == 3 else ""
            words = f"Optimizer step {step} was left out: its gradients were NaN or infinite. {samples}{rest}"
            rank_zero_warn(words.strip())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.skipped:
            words = "1 optimizer step was" if self.skipped == 1 else f"{self.skipped} optimizer steps were"
            trainer.print(f"{words} left out: NaN or infinite gradients.")

    def _read_losses(self, trainer: Trainer) -> None:
        self._unread = []  # they are why steps are left out

"""Callback that skips optimizer steps with NaN or infinite gradients."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.nn.utils import get_total_norm

from callbacks.guards.finite_loss import FiniteLoss, TrainingFailed, describe_samples


class SkipNotFinite(FiniteLoss):
    """Check that skips optimizer steps with NaN or infinite gradients, as if their batches were not in the data.

    Weights, optimizer state and buffers (such as BatchNorm's) remain as before the step. Means such as `train/loss`
    omit batches whose loss is not finite. The learning rate schedule and the step count advance. Each step waits for
    the device. Ten skipped steps in a row raise TrainingFailed. Validation losses and weights are checked as in
    `FiniteLoss`. Under 16-mixed, the gradient scaler skips such steps itself.
    """

    most_in_a_row = 10

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0
        self._in_a_row = 0
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._first_batch = self._batch = 0  # of the current optimizer step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in trainer.optimizers):
            raise MisconfigurationException("not_finite: skip does not support LBFGS. Set --not_finite stop.")
        if getattr(pl_module, "steps_per_call", 1) > 1:
            raise MisconfigurationException("not_finite: skip does not support steps_per_call. Set --not_finite stop.")
        train_metrics = getattr(pl_module, "train_metrics", None)
        if train_metrics is not None:
            train_metrics.finite_only = True
        self.skipped = self._in_a_row = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._batch = batch_idx
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._first_batch = batch_idx
            self._buffers = [(buffer, buffer.detach().clone()) for buffer in pl_module.buffers()]

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        # Gradients are already synchronized, so all ranks agree.
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients or bool(torch.isfinite(get_total_norm(gradients))):
            self._in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)  # optimizers skip parameters without a gradient
        for buffer, before in self._buffers:
            buffer.copy_(before)
        self.skipped += 1
        self._in_a_row += 1
        step = trainer.global_step + 1
        samples = describe_samples(trainer, range(self._first_batch, self._batch + 1))
        if self._in_a_row == self.most_in_a_row:
            raise TrainingFailed(
                f"The gradients of the last {self._in_a_row} steps were NaN or infinite, up to optimizer step {step} "
                f"(epoch {trainer.current_epoch + 1}). A few bad batches do not explain this. {samples}Try a smaller "
                "learning rate, or check the data."
            )
        if self.skipped <= 3:
            note = "Further skipped steps are counted, not listed." if self.skipped == 3 else ""
            text = f"Skipped optimizer step {step}: its gradients were NaN or infinite. {samples}{note}"
            rank_zero_warn(text.strip())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.skipped:
            steps = f"{self.skipped} optimizer step{'' if self.skipped == 1 else 's'}"
            trainer.print(f"Skipped {steps} with NaN or infinite gradients.")

    def _check_losses(self, trainer: Trainer) -> None:
        self._pending = []  # the step of a bad loss is skipped

"""Optimizer steps of several batches for losses that are weighted means.

The mean over all samples of a step is not the mean of the batches' losses, and the sum of the weights is known only
after the last batch. Each batch therefore trains on its sum, and the gradients of the step are divided at its end.
"""

from abc import ABC
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import LBFGS

from lit_models.parts.step_state import StepState


class WeightedSteps(LightningModule, ABC):
    """Base class of tasks whose gradients are those of the mean over all samples of an optimizer step."""

    _step_state: StepState

    def _shares_step(self) -> bool:
        """Return True if an optimizer step has several batches."""
        return self.trainer.world_size > 1 or self.trainer.accumulate_grad_batches > 1

    def on_train_start(self) -> None:  # not `on_train_epoch_start`, because a resumed run may start within an epoch
        shares = self._shares_step()
        if shares and any(isinstance(optimizer, LBFGS) for optimizer in self.trainer.optimizers):
            raise MisconfigurationException(
                "optimizer: lbfgs needs the loss of all samples of a step at once, but a step has several batches. "
                "Set --trainer.accumulate_grad_batches 1 and --trainer.devices 1."
            )
        self._step_state = StepState(getattr(self.trainer.train_dataloader, "weight", None) if shares else None)
        super().on_train_start()

    def _shared_objective(self, objective: Tensor, batch_idx: int) -> Tensor:
        """Return the objective times the weight of the batch in its optimizer step."""
        state = self._step_state
        if state.divisor is not None and self._shares_step():
            return state.summed(objective, state.divisor)
        return state.weighted(objective, batch_idx)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients, and divide them at the last batch of a step, before all hooks that read them."""
        super().backward(loss, *args, **kwargs)
        total = self._step_state.total
        if total is not None and self._ends_step():
            self._step_state.total = None
            self._divide_gradients(total)

    def _ends_step(self) -> bool:
        trainer, batches = self.trainer, self._step_state.counted + 1
        last = batches == trainer.num_training_batches or trainer.is_last_batch
        return last or batches % trainer.accumulate_grad_batches == 0

    @torch.no_grad()
    def _divide_gradients(self, total: Tensor) -> None:
        """Divide by the sum of the weights over all ranks, instead of by the number of batches as Lightning does."""
        total = self.trainer.strategy.reduce(total.clone(), reduce_op="sum")  # in place, and the metrics store `total`
        batches = self.trainer.world_size * self.trainer.accumulate_grad_batches
        factor = batches / total.where(total > 0, batches)
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

"""How large the gradients are, layer by layer."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from callbacks.histograms import add_histogram
from callbacks.layers import readable_name
from callbacks.step_hooks import NoStepHooks
from callbacks.support import is_dry_run, last_step, tensorboard_writer


class Gradients(NoStepHooks, Callback):
    """Norms and histograms of the gradients, as the backward pass leaves them and as the optimizer gets them.

    | key                    | what                                                   | when                        |
    |------------------------|--------------------------------------------------------|-----------------------------|
    | grad_norm/total        | Euclidean norm over all parameters, before clipping    | every `every_n_steps` steps |
    | grad_norm/clipped      | the same after clipping, only where clipping is on     | every `every_n_steps` steps |
    | grad_norm/<parameter>  | norm of one parameter's gradient, before clipping      | every `every_n_steps` steps |
    | gradients/<parameter>  | histogram of its values, before clipping (TensorBoard) | every `every_n_steps` steps |

    Steps are optimizer steps, the first one and then each n-th. The norms go to every logger.
    """

    def __init__(self, every_n_steps: int = 50, histograms: bool = True) -> None:
        if every_n_steps < 1:
            raise MisconfigurationException(f"Gradients.every_n_steps must be 1 or more, not {every_n_steps}.")
        self.every_n_steps = every_n_steps
        self.histograms = histograms
        self._found: dict[str, float] = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if trainer.global_step % self.every_n_steps or is_dry_run(trainer) or not trainer.is_global_zero:
            return
        gradients = _gradients(pl_module)
        if not gradients:
            return
        norms = _norms(gradients)
        total = float(torch.linalg.vector_norm(norms))
        self._found = {"grad_norm/total": total}
        self._found |= {f"grad_norm/{name}": norm for name, norm in zip(gradients, norms.tolist(), strict=True)}
        writer = tensorboard_writer(trainer) if self.histograms else None
        if writer is not None:
            for name, gradient in gradients.items():
                add_histogram(writer, f"gradients/{name}", gradient, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._found:
            return
        found, self._found = self._found, {}
        if trainer.gradient_clip_val and (gradients := _gradients(pl_module)):  # they stay until the next backward
            found["grad_norm/clipped"] = float(torch.linalg.vector_norm(_norms(gradients)))
        for logger in trainer.loggers:
            logger.log_metrics(found, step=last_step(trainer))  # that of the gradients


def _gradients(module: LightningModule) -> dict[str, Tensor]:
    return {readable_name(n): p.grad.detach() for n, p in module.named_parameters() if p.grad is not None}


def _norms(gradients: dict[str, Tensor]) -> Tensor:
    """One a gradient, in one read of the device."""
    return torch.stack([torch.linalg.vector_norm(gradient.float()) for gradient in gradients.values()]).cpu()

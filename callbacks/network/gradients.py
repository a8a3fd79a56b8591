"""Callback for the norms and histograms of gradients."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from callbacks.arguments import require
from callbacks.network.histograms import add_histogram
from callbacks.network.layers import by_readable_name
from callbacks.step_hooks import EveryNth, Observer
from callbacks.trainer_state import log_to_all, tensorboard_writer


class Gradients(Observer):
    """Norms and histograms of the gradients, before and after clipping.

    | key                    | what                                                   | when                        |
    |------------------------|--------------------------------------------------------|-----------------------------|
    | grad_norm/total        | Euclidean norm over all parameters, before clipping    | every `every_n_steps` steps |
    | grad_norm/clipped      | the same after clipping, if clipping is on             | every `every_n_steps` steps |
    | grad_norm/<parameter>  | norm of one parameter's gradient, before clipping      | every `every_n_steps` steps |
    | gradients/<parameter>  | histogram of its values, before clipping (TensorBoard) | every `every_n_steps` steps |

    Steps are optimizer steps: the first one and then every n-th, or the next one if a call takes several steps. LBFGS
    evaluates a step several times; its first evaluation is logged. Every logger receives the norms.
    """

    def __init__(self, every_n_steps: int = 50, histograms: bool = True) -> None:
        require(every_n_steps >= 1, "Gradients.every_n_steps", "1 or more", every_n_steps)
        self.every_n_steps = every_n_steps
        self.histograms = histograms
        self._norms: dict[str, float] = {}
        self._due = EveryNth(every_n_steps)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._due.start(trainer)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if not self._due(trainer):
            return
        gradients = _gradients(pl_module, _scale(trainer, optimizer))
        if not gradients:
            return
        norms = _norms(gradients)
        named = {f"grad_norm/{name}": norm for name, norm in zip(gradients, norms.tolist(), strict=True)}
        self._norms = {"grad_norm/total": float(torch.linalg.vector_norm(norms)), **named}
        writer = tensorboard_writer(trainer) if self.histograms else None
        if writer is not None:
            for name, gradient in gradients.items():
                add_histogram(writer, f"gradients/{name}", gradient, trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if not self._norms:
            return
        logged, self._norms = self._norms, {}
        if trainer.gradient_clip_val and (gradients := _gradients(pl_module)):  # present until the next backward pass
            logged["grad_norm/clipped"] = float(torch.linalg.vector_norm(_norms(gradients)))
        log_to_all(trainer, logged)


def _gradients(module: LightningModule, scale: float = 1.0) -> dict[str, Tensor]:
    named = by_readable_name((n, p.grad.detach()) for n, p in module.named_parameters() if p.grad is not None)
    dense = {n: g.coalesce().values() if g.is_sparse else g for n, g in named.items()}
    return dense if scale == 1.0 else {n: g.float() / scale for n, g in dense.items()}


def _scale(trainer: Trainer, optimizer: Optimizer) -> float:
    """Return the loss scale of float16 training for a fused optimizer, which unscales the gradients itself, else 1."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return float(scaler.get_scale()) if scaler is not None and optimizer.defaults.get("fused") else 1.0


def _norms(gradients: dict[str, Tensor]) -> Tensor:
    """Return the norms of all gradients as one tensor on the CPU, with a single transfer from the device."""
    return torch.stack([torch.linalg.vector_norm(gradient.float()) for gradient in gradients.values()]).cpu()

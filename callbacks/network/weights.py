"""Callback for the distribution of the weights and the size of their updates."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from callbacks.arguments import require
from callbacks.network.histograms import add_histogram
from callbacks.network.layers import by_readable_name
from callbacks.step_hooks import EpochObserver, EveryNth
from callbacks.trainer_state import last_step, log_to_all, tensorboard_writer


class Weights(EpochObserver):
    """Histograms of the weights, and the relative size of one step's update.

    | key                      | what                                                   | when                        |
    |--------------------------|--------------------------------------------------------|-----------------------------|
    | weights/<parameter>      | histogram of its values (TensorBoard)                  | every `every_n_epochs`, end |
    | update_ratio/<parameter> | norm of the update, divided by the norm of the weights | every `every_n_steps` steps |

    A ratio of about 0.001 is usual with Adam and SGD. If it is far lower, the layer hardly learns. If it is far higher,
    the learning rate is too high. Parameters with fewer than two dimensions have no ratio, since biases start at zero.
    """

    def __init__(self, every_n_epochs: int = 1, every_n_steps: int = 50) -> None:
        super().__init__(every_n_epochs)
        require(every_n_steps >= 1, "Weights.every_n_steps", "1 or more", every_n_steps)
        self.every_n_steps = every_n_steps
        self._before: dict[str, Tensor] = {}
        self._due = EveryNth(every_n_steps)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._due.start(trainer)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self._due(trainer):
            self._before = {
                name: p.detach().clone() for name, p in pl_module.named_parameters() if p.requires_grad and p.dim() >= 2
            }

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if not self._before:
            return
        before, self._before = self._before, {}
        now = dict(pl_module.named_parameters())
        ratios = [
            torch.linalg.vector_norm(now[name].detach() - old) / torch.linalg.vector_norm(old).clamp(min=1e-12)
            for name, old in before.items()
        ]
        named = by_readable_name(zip(before, torch.stack(ratios).tolist(), strict=True))
        log_to_all(trainer, {f"update_ratio/{name}": ratio for name, ratio in named.items()})

    def write(self, trainer: Trainer, module: LightningModule, epoch: int) -> None:
        if (writer := tensorboard_writer(trainer)) is not None:
            for name, parameter in by_readable_name(module.named_parameters()).items():
                add_histogram(writer, f"weights/{name}", parameter, last_step(trainer))

"""How weights move: their distribution, and the size of an update beside the size of the weight."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from callbacks.network.histograms import add_histogram
from callbacks.network.layers import by_readable_name
from callbacks.step_hooks import EveryNth, NoStepHooks
from callbacks.trainer_state import last_step, tensorboard_writer


class Weights(NoStepHooks, Callback):
    """Distribution of the weights, and how far one step moves them.

    | key                      | what                                                   | when                        |
    |--------------------------|--------------------------------------------------------|-----------------------------|
    | weights/<parameter>      | histogram of its values (TensorBoard)                  | every `every_n_epochs`, end |
    | update_ratio/<parameter> | norm of what a step changed over the norm of weights   | every `every_n_steps` steps |

    A ratio about 0.001 is usual with Adam and SGD; far below, the layer hardly learns, far above, the rate is too high.
    Parameters of fewer than two dimensions (biases, norms) have no ratio, since they start at zero.
    """

    def __init__(self, every_n_epochs: int = 1, every_n_steps: int = 50) -> None:
        if min(every_n_epochs, every_n_steps) < 1:
            raise MisconfigurationException("Weights: every_n_epochs and every_n_steps must be 1 or more.")
        self.every_n_epochs = every_n_epochs
        self.every_n_steps = every_n_steps
        self._before: dict[str, Tensor] = {}
        self._due = EveryNth(every_n_steps)
        self._written = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._due.start(trainer)
        self._written = -1

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self._due(trainer):
            self._before = {
                name: p.detach().clone() for name, p in pl_module.named_parameters() if p.requires_grad and p.dim() >= 2
            }

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._before:
            return
        before, self._before = self._before, {}
        now = dict(pl_module.named_parameters())
        ratios = [
            torch.linalg.vector_norm(now[name].detach() - was) / torch.linalg.vector_norm(was).clamp(min=1e-12)
            for name, was in before.items()
        ]
        named = by_readable_name(zip(before, torch.stack(ratios).tolist(), strict=True))
        found = {f"update_ratio/{name}": ratio for name, ratio in named.items()}
        for logger in trainer.loggers:
            logger.log_metrics(found, step=last_step(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, module: LightningModule) -> None:
        writer, step = tensorboard_writer(trainer), last_step(trainer)
        if writer is None or step == self._written:
            return
        self._written = step
        for name, parameter in by_readable_name(module.named_parameters()).items():
            add_histogram(writer, f"weights/{name}", parameter, step)

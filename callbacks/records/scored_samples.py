"""Counts the samples that really went through validation or test: limits may leave some out."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks import NoStepHooks


class ScoredSamples(NoStepHooks, Callback):
    """`number` is how many samples the last validation or test saw, over all processes."""

    def __init__(self) -> None:
        self.number = 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.number = 0

    on_test_start = on_validation_start

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        batch = kwargs["batch"] if "batch" in kwargs else args[1]
        self.number += _size(batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            total = trainer.strategy.reduce(torch.tensor(self.number, device=pl_module.device), reduce_op="sum")
            self.number = int(total)

    on_test_end = on_validation_end


def _size(batch: Any) -> int:
    first = batch
    while isinstance(first, (tuple, list)) and first:
        first = first[0]
    if isinstance(first, dict) and first:
        first = next(iter(first.values()))
    return len(first) if isinstance(first, torch.Tensor) and first.dim() else 0

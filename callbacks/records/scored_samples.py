"""Callback that counts the samples of a validation or test, which `limit_..._batches` may reduce."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from callbacks.step_hooks import Observer


class ScoredSamples(Observer):
    """Counter of samples; `number` is the count of the last validation or test over all processes."""

    def __init__(self) -> None:
        self.number = 0

    def state_dict(self) -> dict[str, Any]:
        return {"number": self.number}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count, since a run that resumes after its last validation does not validate again."""
        self.number = int(state_dict["number"])

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.number = 0

    on_test_start = on_validation_start

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        if not trainer.sanity_checking:
            self.number += _batch_size(batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1 and not trainer.sanity_checking:
            total = trainer.strategy.reduce(torch.tensor(self.number, device=pl_module.device), reduce_op="sum")
            self.number = int(total)

    on_test_end = on_validation_end


def _batch_size(batch: Any) -> int:
    """Return the length of the first element of a batch, or 0 if it is not a tensor."""
    while isinstance(batch, (tuple, list, dict)) and batch:
        batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
    return len(batch) if isinstance(batch, torch.Tensor) and batch.dim() else 0

"""A second look at data: what a model predicts for every sample of its loaders, on all processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.forward import split_batch, undisturbed


def predictions(
    trainer: Trainer, module: LightningModule, loaders: Any, limits: Sequence[int | float]
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Inputs and what `predict_step` makes of them, batch by batch; nothing where it gives no dict of tensors.

    `limits` are the trainer's numbers of batches of each loader. The model is in evaluation mode meanwhile; its modes
    and all random states are put back.
    """
    every = loaders if isinstance(loaders, (list, tuple)) else [] if loaders is None else [loaders]
    with undisturbed(module), torch.compiler.set_stance("force_eager"):
        for loader, limit in zip(every, limits, strict=False):
            for index, batch in enumerate(loader):
                if index >= limit:
                    break
                batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
                with trainer.precision_plugin.forward_context():
                    found = module.predict_step(batch, index)
                inputs, _ = split_batch(batch)
                if not isinstance(found, dict) or inputs is None:
                    return
                yield inputs, found

"""The weights of best.ckpt for a block of code at the end of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.checkpoints.best_checkpoint import BestCheckpoint
from callbacks.checkpoints.content_stamp import is_intact


@contextmanager
def best_weights(trainer: Trainer, module: LightningModule) -> Iterator[str]:
    """Load the weights of best.ckpt, if there is one, and restore the trained weights at the end.

    Yield which weights the module has: `epoch 3 (best)` or `epoch 5 (last)`, counted from 1. Call it on every process.
    """
    best = next((c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint) and c.best_model_path), None)
    if best is None:
        yield f"epoch {trainer.current_epoch} (last)"
        return
    content = trainer.strategy.broadcast(_read(best.best_model_path) if trainer.is_global_zero else {})
    if not content:
        yield f"epoch {trainer.current_epoch} (last)"
        return
    trained = {name: value.detach().clone() for name, value in module.state_dict().items()}
    module.load_state_dict(content["state_dict"])
    try:
        yield f"epoch {content['epoch'] + 1} (best)"
    finally:
        module.load_state_dict(trained)


def _read(path: str) -> dict[str, Any]:
    """Return epoch and weights, or nothing if the file was changed or corrupted."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if is_intact(content) is False:
            raise ValueError("it was changed after litlab wrote it")
    except Exception as error:  # torch raises many types
        rank_zero_warn(f"{path} cannot be used for figures ({error}). They show the last weights instead.")
        return {}
    return {name: content[name] for name in ("epoch", "state_dict")}

"""litlab's loader alone, as its datamodules create it for a Trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer

import datamodules
from benchmarks.arms.made_up import MadeUp32DataModule
from benchmarks.arms.raw import clock

AUGMENT: tuple[Mapping[str, Any], ...] = ({"name": "crop", "padding": 4}, {"name": "flip"})


def loader(
    dataset: str, batch_size: int, count: int, augment: Sequence[Mapping[str, Any]] = (), device: str = "cpu"
) -> Any:
    """Return the loader over all training images."""
    options: dict[str, Any] = {"batch_size": batch_size, "val_split": 0}
    if augment:
        options["augment"] = [dict(spec) for spec in augment]
    if dataset == "MadeUp32":
        data: Any = MadeUp32DataModule(count, **options)
    else:
        data = getattr(datamodules, f"{dataset}DataModule")(**options)
    data.trainer = Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data.prepare_data()
    data.setup("fit")
    return data.train_dataloader()


def seconds_of_epoch(batches: Any, epoch: int = 0, device: str = "cpu") -> float:
    """Return the seconds of one epoch of a loader, without using its batches."""
    if hasattr(batches, "sampler"):
        batches.sampler.set_epoch(epoch)
    start = clock(device)
    for _ in batches:
        pass
    return clock(device) - start

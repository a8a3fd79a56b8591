"""Advice for batches that do not fit into memory."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer


def lack_within(error: BaseException | None) -> BaseException | None:
    """Return the out-of-memory error that an error is or was caused by, or None."""
    while error is not None:
        text = str(error)
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            return error
        if type(error) is RuntimeError and "DefaultCPUAllocator" in text and "memory" in text:
            return error
        error = error.__cause__ or error.__context__
    return None


def advice(lack: BaseException, trainer: Trainer | None, data: LightningDataModule | None) -> str:
    """Return one or two sentences: which memory is full, and the options that need less."""
    where = "the main memory"
    if isinstance(lack, torch.OutOfMemoryError):
        where = "the GPU's memory"
        if torch.cuda.is_available():
            where += f" ({torch.cuda.mem_get_info()[1] / 2**30:.0f} GiB)"
    if trainer is None:
        return f"{where} is not enough for this model. Take a smaller one."
    size: Any = getattr(data, "batch_size", None)
    if not isinstance(size, int) or size < 2:
        return f"{where} is not enough. Take a smaller model or smaller batches."
    now = int(trainer.accumulate_grad_batches)
    share = size // now // trainer.world_size
    steps = next((n for n in range(2 * now, size + 1) if size % n == 0 and size // n >= trainer.world_size), None)
    same = f"`--trainer.accumulate_grad_batches {steps}` keeps {size} samples a step; " if steps is not None else ""
    return (
        f"{where} is not enough for {share} samples at a time. About half of it suffices with smaller parts: {same}"
        f"`--data.batch_size {size // 2}` makes smaller steps."
    )

"""Advice for batches that do not fit in memory."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer


def find_out_of_memory(error: BaseException | None) -> BaseException | None:
    """Return the out-of-memory error that is, or caused, the given error, or None."""
    while error is not None:
        text = str(error)
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            return error
        if type(error) is RuntimeError and "DefaultCPUAllocator" in text and "memory" in text:
            return error
        error = error.__cause__ or error.__context__
    return None


def advice(error: BaseException, trainer: Trainer | None, data: LightningDataModule | None) -> str:
    """Return the message: which memory is too small, and the options that need less."""
    memory = "main memory"
    if isinstance(error, torch.OutOfMemoryError):
        memory = "GPU memory"
        if torch.cuda.is_available():
            memory += f" ({torch.cuda.mem_get_info()[1] / 2**30:.0f} GiB)"
    if trainer is None:
        return f"{memory} is too small for this model. Use a smaller model."
    size: Any = getattr(data, "batch_size", None)
    if not isinstance(size, int) or size < 2:
        return f"{memory} is too small. Use a smaller model or smaller batches."
    now = int(trainer.accumulate_grad_batches)
    share = size // now // trainer.world_size
    steps = next((n for n in range(2 * now, size + 1) if size % n == 0 and size // n >= trainer.world_size), None)
    same = f"--trainer.accumulate_grad_batches {steps} to keep {size} samples per optimizer step, or " if steps else ""
    return (
        f"{memory} is too small for {share} samples at a time. To need about half of it, set {same}"
        f"--data.batch_size {size // 2}."
    )

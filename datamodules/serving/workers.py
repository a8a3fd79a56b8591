"""Batches from worker processes, through torch's DataLoader."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.serving.batches import Batch, Batches

BatchIndex = tuple[int, int]  # epoch, index
T = TypeVar("T")


class BatchDataset(Dataset[Batch]):
    """Complete batches by (epoch, index); torch calls only `__getitems__`."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitems__(self, indices: list[BatchIndex]) -> Batch:
        (index,) = indices
        return self.batches.make(*index)


class BatchIndexSampler:
    """Batch indices of `epoch`, from `start` on."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return self.length - self.start

    def __iter__(self) -> Iterator[list[BatchIndex]]:
        # Workers prefetch indices after the next epoch may have been set: read the epoch now.
        epoch = self.epoch
        return ([(epoch, index)] for index in range(self.start, self.length))


class WorkerBatches:
    """Batch source of `InMemoryLoader`: worker processes, started with the first batch and kept between epochs.

    Workers cannot share data on a GPU.
    """

    def __init__(self, batches: Batches, num_workers: int, *, pin_memory: bool = False) -> None:
        """Store the arguments; 0 workers means torch's DataLoader in this process."""
        self.batches = batches
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self._sampler = BatchIndexSampler(len(batches))
        self._loader: DataLoader[Batch] | None = None

    def iterate(self, epoch: int, start: int) -> Iterator[Batch]:
        """Iterate over the batches of an epoch, from `start` on."""
        if self._loader is None:
            # A forked worker shares the data without a copy. Forking is safe although this process has threads: torch
            # runs a worker on one thread, which never waits for the lost thread pool. Only Linux forks safely.
            start_method = "fork" if sys.platform.startswith("linux") else "spawn"
            self._loader = DataLoader(
                BatchDataset(self.batches),
                batch_sampler=self._sampler,
                collate_fn=_identity,
                num_workers=self.num_workers,
                persistent_workers=self.num_workers > 0,
                pin_memory=self.pin_memory,
                generator=torch.Generator(),  # otherwise DataLoader advances the global random state
                multiprocessing_context=start_method if self.num_workers else None,
            )
        self._sampler.epoch, self._sampler.start = epoch, start
        return iter(self._loader)

    def close(self) -> None:
        """Stop the workers; the next `iterate` starts them again."""
        self._loader = None


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """Return the default number of workers: one per core, minus one for training, at least 1 and at most 8."""
    return max(1, min(8, usable_cores() - 1))


def _identity(batch: T) -> T:
    return batch

"""Batches from worker processes, through torch's DataLoader."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import repeat
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.serving.batches import Batch, Batches

BatchIndex = tuple[int, int]  # epoch, index
T = TypeVar("T")


class BatchDataset(Dataset[Batch]):
    """Complete batches by (epoch, index)."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, index: BatchIndex) -> Batch:
        return self.batches.make(*index)


class BatchIndexSampler(Sampler[BatchIndex]):
    """Sampler of the batch indices of `epoch`, from `start` on."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.epoch = 0
        self.start = 0

    def __iter__(self) -> Iterator[BatchIndex]:
        # Read the epoch now: workers may prefetch indices after the next epoch was set.
        return zip(repeat(self.epoch), range(self.start, self.length), strict=False)


class WorkerBatches:
    """Worker processes that make batches for `InMemoryLoader`; they start with the first batch and stay for all epochs.

    The data must be in main memory, because workers cannot share data on a GPU.
    """

    def __init__(self, batches: Batches, num_workers: int, *, pin_memory: bool = False) -> None:
        """Store the arguments; with 0 workers, torch's DataLoader runs in this process."""
        self.batches = batches
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self._sampler = BatchIndexSampler(len(batches))
        self._loader: DataLoader[Batch] | None = None

    def iterate(self, epoch: int, start: int) -> Iterator[Batch]:
        """Iterate over the batches of an epoch, from `start` on."""
        if self._loader is None:
            # A forked worker shares the data without a copy. Forking is safe on Linux although this process has
            # threads, because torch uses one thread per worker, which does not wait for the thread pool.
            start_method = "fork" if sys.platform.startswith("linux") else "spawn"
            self._loader = DataLoader(
                BatchDataset(self.batches),
                batch_size=None,  # an item of the dataset is a batch
                sampler=self._sampler,
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
    """Return one worker per core except one, which trains; at least 1 and at most 8."""
    return max(1, min(8, usable_cores() - 1))


def _identity(batch: T) -> T:
    return batch

"""The same batches from worker processes, through torch's DataLoader."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.serving.batches import Batch, Batches

Place = tuple[int, int]  # epoch, index
T = TypeVar("T")


class BatchSet(Dataset[Batch]):
    """Whole batches by (epoch, index), for torch's fetcher, which calls `__getitems__`."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, place: Place) -> Batch:
        return self.batches.make(*place)

    def __getitems__(self, places: list[Place]) -> Batch:
        (place,) = places
        return self[place]


class Places:
    """The batches to ask for: those of `epoch` from `start` on."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return self.length - self.start

    def __iter__(self) -> Iterator[list[Place]]:
        # Worker processes take places ahead, when the next epoch may have been set: keep the present one.
        epoch = self.epoch
        return ([(epoch, index)] for index in range(self.start, self.length))


class WorkerFrontEnd:
    """A front end of `InMemoryLoader`: worker processes, kept from epoch to epoch, make the batches.

    They are started with the first batch. A store that `batches` holds on a GPU cannot be shared with them.
    """

    def __init__(self, batches: Batches, num_workers: int, *, pin_memory: bool = False) -> None:
        """Start nothing yet; 0 workers is torch's DataLoader in this process."""
        self.batches = batches
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self._places = Places(len(batches))
        self._loader: DataLoader[Batch] | None = None

    def serve(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from `start` on."""
        if self._loader is None:
            # A fork shares the store with its workers, without a copy. It is safe although this process has threads:
            # torch runs a worker on one thread, which never waits for a pool that the fork has lost. Elsewhere than on
            # Linux a fork is not safe at all.
            start_method = "fork" if sys.platform.startswith("linux") else "spawn"
            self._loader = DataLoader(
                BatchSet(self.batches),
                batch_sampler=self._places,
                collate_fn=_hand_through,
                num_workers=self.num_workers,
                persistent_workers=self.num_workers > 0,
                pin_memory=self.pin_memory,
                generator=torch.Generator(),  # else it draws a seed that nobody needs from the run's own
                multiprocessing_context=start_method if self.num_workers else None,
            )
        self._places.epoch, self._places.start = epoch, start
        return iter(self._loader)

    def close(self) -> None:
        """End the workers; they are started again when needed."""
        self._loader = None


def default_workers() -> int:
    """Worker processes where none are asked for: one for each processor but that of the training, at most 8."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, usable - 1))


def _hand_through(batch: T) -> T:
    return batch

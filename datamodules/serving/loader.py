"""Dataloader for Lightning that saves and restores its position in the epoch."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import Sampler, SequentialSampler

from datamodules.serving.batches import Batch, Batches
from datamodules.serving.workers import WorkerBatches


class EpochSampler(Sampler[int]):
    """Sampler of the current epoch's order; Lightning calls `set_epoch`."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Store the epoch of the next batches."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches.num_samples

    def __iter__(self) -> Iterator[int]:
        return iter(self.batches.order(self.epoch).tolist())


class FileOrderSampler(EpochSampler, SequentialSampler):
    """An `EpochSampler` without shuffling; Lightning recognizes it as a `SequentialSampler`."""


class _Iteration:
    """Marker that exists as long as the iteration whose position is saved."""


class InMemoryLoader:
    """Dataloader over `batches`; an iterator has no effect until its first batch is requested.

    The position in `state_dict` counts the batches returned in the epoch, not those prefetched by workers. A second
    iterator over the same epoch, for example in a callback, does not change it.
    """

    batch_sampler = None  # Lightning reads it from loaders that have a sampler

    def __init__(
        self,
        batches: Batches,
        *,
        source: WorkerBatches | None = None,
        batches_per_call: int = 1,
        accumulate: int = 1,
        limit: int | float | None = None,
        data_hash: Callable[[], str] | None = None,
    ) -> None:
        """Store the arguments.

        Args:
            batches: the batches to iterate over.
            source: worker processes that make the batches; this process makes them if None.
            batches_per_call: number of consecutive batches per item; if 1, the items are batches, not groups.
            accumulate: batches per optimizer step, used by `weight`.
            limit: number or fraction of batches per epoch, used by `weight`; all if None.
            data_hash: returns a hash that is saved with the position, so that `load_state_dict` rejects other data.
        """
        self.batches = batches
        self.source = source
        self.batches_per_call = batches_per_call
        self.accumulate = accumulate
        number = len(batches)
        self.used = number if limit is None else min(int(number * limit) if isinstance(limit, float) else limit, number)
        self.data_hash = data_hash
        self.sampler = EpochSampler(batches) if batches.shuffle else FileOrderSampler(batches)
        self._position = (0, 0)  # epoch, and number of its batches already returned
        self._restored = False
        self._iteration: Callable[[], _Iteration | None] = lambda: None

    @property
    def batch_size(self) -> int:
        """Number of samples per batch, over all ranks."""
        return self.batches.batch_size

    def __len__(self) -> int:
        """Return the number of items (batches or groups of them) per epoch, the same on every rank."""
        return -(-len(self.batches) // self.batches_per_call)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over batches (inputs, targets), or over groups of `batches_per_call` batches."""
        # This function is a generator, so it reads the epoch when the first batch is requested.
        epoch, start = self.sampler.epoch, 0
        if self._iteration() is not None and self._position[0] == epoch:
            yield from self._items(epoch)
            return
        if self._restored and self._position[0] == epoch:
            start = self._position[1]
        self._restored = False
        iteration = _Iteration()
        self._iteration = weakref.ref(iteration)
        self._position = epoch, start
        for item in self._items(epoch, start, self.source):
            start += 1 if self.batches_per_call == 1 else len(item)
            self._position = epoch, start
            yield item
            del item  # free its memory before the next item is made
        del iteration

    def weight(self, index: int) -> float:
        """Return the weight of this rank's mean loss in its optimizer step; exactly 1.0 if all shares are equal.

        Lightning averages over ranks and divides by the number of accumulated batches. With these weights, the result
        is the mean over all samples of the step, even if shares differ by one or the epoch ends within a step.
        """
        first = index - index % self.accumulate
        last = min(first + self.accumulate, max(self.used, index + 1))
        group = self.batches.bounds[last - 1][1] - self.batches.bounds[first][0]
        return self.batches.share(index) * self.batches.world_size * self.accumulate / group

    def samples(self, index: int) -> list[int]:
        """Return the sample numbers (from 0) of an item of the current epoch, over all ranks."""
        first = index * self.batches_per_call
        last = min(first + self.batches_per_call, len(self.batches))
        bounds = self.batches.bounds[first][0], self.batches.bounds[last - 1][1]
        samples: list[int] = self.batches.order(self._position[0])[slice(*bounds)].tolist()
        return samples

    def not_finite(self, samples: list[int]) -> list[int]:
        """Return the given samples whose stored input or target contains NaN or infinity."""
        rows = torch.tensor(samples, device=self.batches.inputs.device)
        not_finite = torch.zeros(len(samples), dtype=torch.bool)
        for data in (self.batches.inputs, self.batches.targets):
            if data.is_floating_point():
                not_finite |= ~torch.isfinite(data.index_select(0, rows)).flatten(1).all(1).cpu()
        return [sample for sample, found in zip(samples, not_finite.tolist(), strict=True) if found]

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the next batch; after the last batch, this is the start of the next epoch."""
        epoch, done = self._position
        if done >= len(self.batches):
            epoch, done = epoch + 1, 0
        return {"epoch": epoch, "batch": done, **self._fingerprint(), "batches_per_call": self.batches_per_call}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved position; raise an error if it belongs to other data, another seed or another batch size."""
        for name, value in self._fingerprint().items():
            if state.get(name) != value:
                raise MisconfigurationException(_MISMATCHES[name].format(saved=state.get(name), ours=value))
        if state["batch"] and state["batches_per_call"] != self.batches_per_call:
            raise MisconfigurationException(
                f"steps_per_call: the checkpoint was saved within an epoch with {state['batches_per_call']}, this run "
                f"has {self.batches_per_call}. Set --steps_per_call {state['batches_per_call']}, or resume from a "
                "checkpoint at the end of an epoch."
            )
        self._position = state["epoch"], state["batch"]
        self._restored = True
        self.sampler.set_epoch(state["epoch"])

    def close(self) -> None:
        """Stop the worker processes; the next iteration starts them again."""
        if self.source is not None:
            self.source.close()

    def _fingerprint(self) -> dict[str, Any]:
        return {
            "samples": self.batches.num_samples,
            "data": None if self.data_hash is None else self.data_hash(),
            "batch_size": self.batches.batch_size,
            "seed": self.batches.seed,
        }

    def _items(self, epoch: int, start: int = 0, source: WorkerBatches | None = None) -> Iterator[Any]:
        make, number, step = self.batches.make, len(self.batches), self.batches_per_call
        if source is not None:
            batches = source.iterate(epoch, start)
            return batches if step == 1 else iter(lambda: list(islice(batches, step)), [])
        if step == 1:
            return (make(epoch, index) for index in range(start, number))
        return (BatchGroup(make, epoch, range(i, min(i + step, number))) for i in range(start, number, step))


class BatchGroup:
    """Batches of one call of `training_step`; each is made when it is requested, so that it fits into the CPU cache."""

    def __init__(
        self, make: Callable[[int, int], Batch], epoch: int, indices: range, device: torch.device | None = None
    ) -> None:
        self._make, self._epoch, self._indices, self._device = make, epoch, indices, device

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Batch:
        """Make and return a batch."""
        batch = self._make(self._epoch, self._indices[index])
        return batch if self._device is None else (batch[0].to(self._device), batch[1].to(self._device))

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))

    def to(self, device: torch.device, **_: Any) -> BatchGroup:
        """Return the same batches, moved to `device` when they are made; Lightning calls this."""
        return BatchGroup(self._make, self._epoch, self._indices, device)


_MISMATCHES = {
    "samples": "data: the checkpoint was saved with {saved} training samples, this run has {ours}. Use the same data, "
    "val_split and train_fraction.",
    "data": "data: the checkpoint was saved with other training data or another split. Use the same data and split.",
    "batch_size": "batch_size: the checkpoint was saved with {saved} samples per batch, this run has {ours}. Use the "
    "same batch_size and accumulate_grad_batches.",
    "seed": "seed_everything: the checkpoint was saved with seed {saved}, this run has {ours}. "
    "Set --seed_everything {saved}.",
}

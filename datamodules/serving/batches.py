"""Batches as a pure function of seed, epoch and batch index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

Batch = tuple[Tensor, Tensor]


class Selection(NamedTuple):
    """The samples of one batch and their random numbers, on the device where the batch is prepared."""

    rows: Tensor  # int64 `(B,)`, rows of the tensors passed to the preparation
    uniforms: Tensor | None = None  # float32 `(B, num_uniforms)` in [0, 1); None in evaluation
    seed: int = 0  # of this batch, below 2^63
    epoch: int = 0
    samples: Tensor | None = None  # int64 `(B,)`, sample numbers; None if they equal `rows`


class Preparation:
    """Selection and processing of rows, by default with `prepare(inputs, targets)`.

    Both are one call, so that a subclass can, for example, select and crop in one operation. All random numbers must
    come from `Selection.uniforms` or, per pixel, from a generator with `Selection.seed`.
    """

    num_uniforms: int = 0  # random numbers per sample
    full_batch: bool = False  # process the batch of all ranks before it is divided, for mixing or noise per pixel
    use_copies: bool = False  # set before the first batch: copies of the data of `copy_bytes` bytes are allowed

    def __init__(self, prepare: Callable[[Tensor, Tensor], Batch] | None = None) -> None:
        self.prepare = prepare

    def __call__(self, inputs: Tensor, targets: Tensor, selection: Selection) -> Batch:
        """Return the model's batch for the selected rows."""
        rows = inputs.index_select(0, selection.rows), targets.index_select(0, selection.rows)
        return rows if self.prepare is None else self.prepare(*rows)

    def copy_bytes(self, inputs: Tensor) -> int:
        """Return the size of the copies of the data that would make it faster; 0 for none."""
        return 0


class Batches:
    """The batches of one rank, each a pure function of seed, epoch and index.

    Each batch is divided among the ranks. All ranks therefore have the same number of batches, and no sample is
    repeated or dropped. A last batch with fewer than `min_share` samples per rank joins the previous batch.
    The order of an epoch and the random numbers of each position are generated once per epoch, on the CPU, identically
    on all ranks. A batch is therefore the same on every device, for any number of ranks and wherever iteration starts.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int,
        *,
        indices: Tensor | None = None,
        preparation: Preparation | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        min_share: int = 1,
        device: torch.device | None = None,
    ) -> None:
        """Divide the samples into batches.

        Args:
            inputs: all inputs `(N, ...)`.
            targets: all targets `(N, ...)`.
            batch_size: samples per batch, over all ranks.
            indices: int64 `(n,)`, the samples to use; all if None.
            preparation: returns the model's batch; if None, selects rows only.
            shuffle: use a new order every epoch instead of the order of `indices`.
            seed: seed of the order and of the random numbers.
            rank: rank of this process.
            world_size: number of ranks.
            min_share: minimum number of samples per rank in the last batch.
            device: device that prepares the batches. Rows of data on another device are moved there first.
        """
        count = len(inputs) if indices is None else len(indices)
        if count < world_size:
            raise MisconfigurationException(
                f"data: {count} samples cannot be divided among {world_size} devices. Use fewer devices."
            )
        self.inputs = inputs
        self.targets = targets
        self.batch_size = batch_size
        self.preparation = Preparation() if preparation is None else preparation
        self.shuffle = shuffle
        self.seed = seed
        self.world_size = world_size
        self.num_samples = count
        self.device = inputs.device if device is None else device
        self.move_rows = self.device != inputs.device
        self.bounds = batch_bounds(count, batch_size, world_size * min_share)
        shares = [share_sizes(stop - start, world_size) for start, stop in self.bounds]
        self._shares = [(sum(sizes[:rank]), sum(sizes[: rank + 1])) for sizes in shares]
        # The order of an epoch is split into pieces of these sizes. This rank takes `pieces[_first::_step]`.
        full = self.preparation.full_batch
        self._pieces = [sum(sizes) for sizes in shares] if full else list(chain.from_iterable(shares))
        self._first, self._step = (0, 1) if full else (rank, world_size)
        self._sliced = full and world_size > 1
        self._indices = indices
        self._epoch: int | None = None
        self._rows: Sequence[Tensor] = ()
        self._uniforms: Sequence[Tensor | None] = ()
        self._seeds: list[int] = []

    def __len__(self) -> int:
        """Return the number of batches per epoch, the same on every rank."""
        return len(self.bounds)

    def share(self, index: int) -> int:
        """Return the number of samples in this rank's share of a batch."""
        first, last = self._shares[index]
        return last - first

    def order(self, epoch: int) -> Tensor:
        """Return the sample numbers of an epoch in order: int64 `(n,)`, on the CPU."""
        if not self.shuffle:
            return torch.arange(self.num_samples) if self._indices is None else self._indices
        # SeedSequence mixes the integers, so consecutive seeds and epochs give unrelated orders.
        state = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
        order = torch.randperm(self.num_samples, generator=torch.Generator().manual_seed(state))
        return order if self._indices is None else self._indices.index_select(0, order)

    def uniforms(self, epoch: int) -> Tensor:
        """Return random numbers in [0, 1), float32 `(n, num_uniforms)`; row i belongs to position i of the order."""
        state = int(np.random.SeedSequence([self.seed, epoch, 1]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(state)
        return torch.rand(self.num_samples, self.preparation.num_uniforms, generator=generator)

    def make(self, epoch: int, index: int) -> Batch:
        """Return this rank's share of a batch."""
        if epoch != self._epoch:
            self._start_epoch(epoch)
        rows, inputs, targets = self._rows[index], self.inputs, self.targets
        samples = None
        if self.move_rows:
            inputs, targets = self._move(inputs.index_select(0, rows)), self._move(targets.index_select(0, rows))
            samples, rows = self._move(rows), torch.arange(len(inputs), device=self.device)
        selection = Selection(rows, self._uniforms[index], self._seeds[index], epoch, samples)
        batch = self.preparation(inputs, targets, selection)
        if not self._sliced:
            return batch
        first, last = self._shares[index]
        return batch[0][first:last], batch[1][first:last]

    def _start_epoch(self, epoch: int) -> None:
        """Generate the order and random numbers, and split them into one view per batch."""
        if self.shuffle or self._epoch is None:
            self._rows = self._split(self.order(epoch).to(self.inputs.device))
        self._uniforms, self._seeds = [None] * len(self), [0] * len(self)
        if self.preparation.num_uniforms:
            self._uniforms = self._split(self.uniforms(epoch).to(self.device))
        if self.preparation.num_uniforms or self.preparation.full_batch:
            seeds = np.random.SeedSequence([self.seed, epoch, 2]).generate_state(len(self), np.uint64)
            self._seeds = (seeds >> np.uint64(1)).tolist()
        self._epoch = epoch

    def _split(self, table: Tensor) -> Sequence[Tensor]:
        return torch.split(table, self._pieces)[self._first :: self._step]

    def _move(self, rows: Tensor) -> Tensor:
        # Copies from pinned memory overlap with computation.
        return (rows.pin_memory() if self.device.type == "cuda" else rows).to(self.device, non_blocking=True)


def batch_bounds(num_samples: int, batch_size: int, min_last: int) -> list[tuple[int, int]]:
    """Return (start, stop) of every batch; a last batch with fewer than `min_last` samples joins the previous one."""
    starts = list(range(0, num_samples, batch_size))
    if len(starts) > 1 and num_samples - starts[-1] < min_last:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_samples], strict=True))


def share_sizes(num_samples: int, world_size: int) -> list[int]:
    """Return each rank's number of samples in a batch; the first ranks get one sample more if it is not divisible."""
    size, more = divmod(num_samples, world_size)
    return [size + (rank < more) for rank in range(world_size)]

"""Every batch as a pure function of (seed, epoch, batch index), whatever serves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

Batch = tuple[Tensor, Tensor]


class Chosen(NamedTuple):
    """Which samples make a batch, and all that may be drawn for them; on the device of the store."""

    rows: Tensor  # int64 (B,), of the store
    uniforms: Tensor | None = None  # float32 (B, columns) in [0, 1); None in evaluation
    seed: int = 0  # one whole number below 2^63 per (seed, epoch, batch)
    epoch: int = 0
    samples: Tensor | None = None  # int64 (B,), where the store is only what was picked and moved; else they are `rows`


class Preparation(Protocol):
    """Makes the model's batch from the whole store and the rows to pick, so that picking and cropping can be one step.

    Read-only facts, so plain class attributes satisfy them. It is called without a generator: what it draws comes
    from `uniforms` or, per pixel, from `seed`.
    """

    @property
    def columns(self) -> int:
        """Uniform numbers it needs per sample; 0 for none."""

    @property
    def whole_batch(self) -> bool:
        """Whether it must see the batch of all ranks (mixes samples, draws per-pixel noise); the result is sliced."""

    def __call__(self, inputs: Tensor, targets: Tensor, chosen: Chosen) -> Batch:
        """The batch of the chosen rows of the store (inputs, targets)."""

    def extra_bytes(self, inputs: Tensor) -> int:
        """Bytes of the copies of the store that it would like to keep; 0 for none."""

    def allow_copies(self, allowed: bool) -> None:
        """Called once before the first batch: whether those copies may be made."""


class PickedRows:
    """The plain preparation: pick the rows, then `prepare(inputs, targets)`. Others may inherit its defaults."""

    columns: int = 0
    whole_batch: bool = False

    def __init__(self, prepare: Callable[[Tensor, Tensor], Batch] | None = None) -> None:
        self.prepare = prepare

    def __call__(self, inputs: Tensor, targets: Tensor, chosen: Chosen) -> Batch:
        """Pick and prepare."""
        picked = inputs.index_select(0, chosen.rows), targets.index_select(0, chosen.rows)
        return picked if self.prepare is None else self.prepare(*picked)

    def extra_bytes(self, inputs: Tensor) -> int:
        """None wanted."""
        return 0

    def allow_copies(self, allowed: bool) -> None:
        """None made."""


class Batches:
    """The batches of one rank, each a pure function of (seed, epoch, index).

    `batch_size` counts samples over all ranks. Each such batch is shared out among the ranks, so all have the same
    number of batches and no sample is repeated or lost; a tail that would leave a rank with fewer than `min_share`
    samples joins the batch before it. What is random is drawn once per epoch on the CPU, for all ranks alike: the
    order, and a row of uniform numbers for each place in it. So a batch is the same on every device, for every
    number of ranks and wherever one starts; drawing it needs no generator and does not wait for the device.
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
        """Share the samples out.

        Args:
            inputs: (N, ...), the whole store.
            targets: (N, ...).
            batch_size: samples per batch, over all ranks.
            indices: int64, the samples of this part; all if None.
            preparation: makes the model's batch; picks rows if None.
            shuffle: a new order every epoch, else that of `indices`.
            seed: of everything random.
            rank: this process.
            world_size: number of processes.
            min_share: least number of samples that a rank gets of a tail.
            device: where batches are prepared. If the store is elsewhere, the picked rows are moved there first.
        """
        count = len(inputs) if indices is None else len(indices)
        if count < world_size:
            raise MisconfigurationException(
                f"data: {count} samples cannot be shared among {world_size} devices. Use fewer devices."
            )
        self.inputs = inputs
        self.targets = targets
        self.batch_size = batch_size
        self.preparation: Preparation = PickedRows() if preparation is None else preparation
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.num_samples = count
        self.device = inputs.device if device is None else device
        self.moved = self.device != inputs.device
        self.bounds = batch_bounds(count, batch_size, world_size * min_share)
        shares = [share_sizes(stop - start, world_size) for start, stop in self.bounds]
        self._shares = [(sum(sizes[:rank]), sum(sizes[: rank + 1])) for sizes in shares]
        # The order of an epoch is cut into these pieces, of which this rank takes every `_step`th from `_first` on.
        whole = self.preparation.whole_batch
        self._pieces = [sum(sizes) for sizes in shares] if whole else list(chain.from_iterable(shares))
        self._first, self._step = (0, 1) if whole else (rank, world_size)
        self._sliced = whole and world_size > 1
        self._indices = indices
        self._epoch: int | None = None
        self._rows: Sequence[Tensor] = ()
        self._uniforms: Sequence[Tensor | None] = ()
        self._seeds: list[int] = []

    def __len__(self) -> int:
        """Batches per epoch, the same on every rank."""
        return len(self.bounds)

    def share(self, index: int) -> int:
        """Samples that this rank gets of a batch."""
        first, last = self._shares[index]
        return last - first

    def order(self, epoch: int) -> Tensor:
        """The samples of an epoch in their order: rows of the store, int64 (n,), on the CPU."""
        if not self.shuffle:
            return torch.arange(self.num_samples) if self._indices is None else self._indices
        # SeedSequence mixes the numbers: seeds and epochs that lie side by side give unrelated orders.
        state = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
        order = torch.randperm(self.num_samples, generator=torch.Generator().manual_seed(state))
        return order if self._indices is None else self._indices.index_select(0, order)

    def uniforms(self, epoch: int) -> Tensor:
        """Uniform numbers in [0, 1) for the augmentation: float32 (n, columns); row i is for place i of the order."""
        state = int(np.random.SeedSequence([self.seed, epoch, 1]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(state)
        return torch.rand(self.num_samples, self.preparation.columns, generator=generator)

    def make(self, epoch: int, index: int) -> Batch:
        """The share of a batch that is this rank's."""
        if epoch != self._epoch:
            self._begin(epoch)
        rows, inputs, targets = self._rows[index], self.inputs, self.targets
        samples = None
        if self.moved:
            inputs, targets = self._move(inputs.index_select(0, rows)), self._move(targets.index_select(0, rows))
            samples, rows = self._move(rows), torch.arange(len(inputs), device=self.device)
        chosen = Chosen(rows, self._uniforms[index], self._seeds[index], epoch, samples)
        batch = self.preparation(inputs, targets, chosen)
        if not self._sliced:
            return batch
        first, last = self._shares[index]
        return batch[0][first:last], batch[1][first:last]

    def _begin(self, epoch: int) -> None:
        """Draw one epoch; views of it, one per batch, are made here because that is cheaper than one at a time."""
        if self.shuffle or self._epoch is None:
            self._rows = self._cut(self.order(epoch).to(self.inputs.device))
        self._uniforms, self._seeds = [None] * len(self), [0] * len(self)
        if self.preparation.columns:
            self._uniforms = self._cut(self.uniforms(epoch).to(self.device))
        if self.preparation.columns or self.preparation.whole_batch:
            words = np.random.SeedSequence([self.seed, epoch, 2]).generate_state(len(self), np.uint64)
            self._seeds = (words >> np.uint64(1)).tolist()
        self._epoch = epoch

    def _cut(self, table: Tensor) -> Sequence[Tensor]:
        return torch.split(table, self._pieces)[self._first :: self._step]

    def _move(self, picked: Tensor) -> Tensor:
        # From pinned memory the copy runs beside the computation.
        return (picked.pin_memory() if self.device.type == "cuda" else picked).to(self.device, non_blocking=True)


def batch_bounds(num_samples: int, batch_size: int, min_tail: int) -> list[tuple[int, int]]:
    """(start, stop) of every batch over all ranks; a tail below `min_tail` samples joins the batch before it."""
    starts = list(range(0, num_samples, batch_size))
    if len(starts) > 1 and num_samples - starts[-1] < min_tail:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_samples], strict=True))


def share_sizes(num_samples: int, world_size: int) -> list[int]:
    """A batch in equal parts, one per rank; what is left over goes to the first ranks, one sample each."""
    size, more = divmod(num_samples, world_size)
    return [size + (rank < more) for rank in range(world_size)]

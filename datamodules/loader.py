"""The in-memory loader: tensors held once, every batch a pure function of (seed, epoch, batch index)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler

Batch = tuple[Tensor, Tensor]


class EpochSampler(Sampler[int]):
    """The order of one epoch: a permutation that only (seed, epoch) determine. Lightning calls `set_epoch`."""

    def __init__(self, num_samples: int, seed: int) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order comes next."""
        self.epoch = epoch

    def order(self) -> Tensor:
        """The permutation of 0..n-1 for the present epoch, drawn on the CPU, so the same on every device."""
        # SeedSequence mixes the two numbers: seeds and epochs that lie side by side give unrelated orders.
        state = int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)[0])
        return torch.randperm(self.num_samples, generator=torch.Generator().manual_seed(state))

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())


class InMemoryLoader:
    """Batches by index from tensors in memory; a plain iterable that Lightning takes as a loader.

    `batch_size` counts samples over all ranks. Each such batch is shared out among the ranks, so all have the
    same number of batches and no sample is repeated or lost. A tail that would leave a rank with fewer than
    `min_share` samples joins the batch before it. `indices` are the samples of this part (all if None), `prepare`
    makes the model's batch from the picked rows. The tensors stay where they are unless `device` says otherwise.
    """

    batch_sampler = None  # Lightning looks for it where it finds a sampler

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int,
        *,
        indices: Tensor | None = None,
        prepare: Callable[[Tensor, Tensor], Batch] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        min_share: int = 1,
        device: torch.device | None = None,
    ) -> None:
        device = device or inputs.device
        self.inputs = inputs.to(device)
        self.targets = targets.to(device)
        self.indices = (torch.arange(len(inputs)) if indices is None else indices).to(device)
        self.prepare = prepare
        self.rank = rank
        self.world_size = world_size
        self.batch_size = batch_size
        self.bounds = batch_bounds(len(self.indices), batch_size, world_size * min_share)
        if len(self.indices) < world_size:
            raise MisconfigurationException(
                f"data: {len(self.indices)} samples cannot be shared among {world_size} devices. Use fewer devices."
            )
        self.sampler: Sampler[int] = (
            EpochSampler(len(self.indices), seed) if shuffle else SequentialSampler(range(len(self.indices)))
        )

    def __len__(self) -> int:
        """Batches per epoch, the same on every rank."""
        return len(self.bounds)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing happens before the first batch is asked for, when the epoch is known.
        order = self.indices
        if isinstance(self.sampler, EpochSampler):
            order = order.index_select(0, self.sampler.order().to(order.device))
        for start, stop in self.bounds:
            rows = order[start + self.rank : stop : self.world_size]
            inputs, targets = self.inputs.index_select(0, rows), self.targets.index_select(0, rows)
            yield (inputs, targets) if self.prepare is None else self.prepare(inputs, targets)


def batch_bounds(num_samples: int, batch_size: int, min_tail: int) -> list[tuple[int, int]]:
    """(start, stop) of every batch over all ranks; a tail below `min_tail` samples joins the batch before it."""
    starts = list(range(0, num_samples, batch_size))
    if len(starts) > 1 and num_samples - starts[-1] < min_tail:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_samples], strict=True))

"""What Lightning takes as a loader: serves `Batches`, knows its place in the epoch and can go back to it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import Sampler, SequentialSampler

from datamodules.serving.batches import Batch, Batches


class EpochSampler(Sampler[int]):
    """Tells the loader the epoch: Lightning calls `set_epoch`. Iterating gives the order of that epoch."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose batches come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches.num_samples

    def __iter__(self) -> Iterator[int]:
        return iter(self.batches.order(self.epoch).tolist())


class FileOrderSampler(EpochSampler, SequentialSampler):
    """The same without shuffling, which Lightning tells by `SequentialSampler`."""


class FrontEnd(Protocol):
    """Another way to the same batches, by worker processes."""

    def serve(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from `start` on."""

    def close(self) -> None:
        """End its processes."""


class _Owner:
    """Held by the pass over the data whose place is saved."""


class InMemoryLoader:
    """A plain iterable over `batches`, without side effects before the first batch is asked for.

    Its place, `state_dict`, is the number of batches handed out in the epoch, whatever was prepared ahead. A second
    iterator beside a running one (a callback that looks at a batch) leaves the place alone.
    """

    batch_sampler = None  # Lightning looks for it where it finds a sampler

    def __init__(
        self,
        batches: Batches,
        *,
        front_end: FrontEnd | None = None,
        batches_per_call: int = 1,
        accumulate: int = 1,
        steps: int | None = None,
        data_hash: Callable[[], str] | None = None,
    ) -> None:
        """Serve the batches.

        Args:
            batches: what to serve.
            front_end: who makes them; this process if None.
            batches_per_call: above 1, iterating gives up to so many consecutive batches at a time.
            accumulate: batches per optimizer step, for `weight`.
            steps: batches that are used of each epoch, where a limit cuts it.
            data_hash: names the data in the saved state, so that other data is refused.
        """
        self.batches = batches
        self.front_end = front_end
        self.batches_per_call = batches_per_call
        self.accumulate = accumulate
        self.used = len(batches) if steps is None else min(steps, len(batches))
        self.data_hash = data_hash
        self.sampler = EpochSampler(batches) if batches.shuffle else FileOrderSampler(batches)
        self._place = (0, 0)  # the epoch, and how many of its batches are handed out
        self._go_back = False
        self._owner: Callable[[], _Owner | None] = lambda: None

    @property
    def batch_size(self) -> int:
        """Samples per batch, over all ranks."""
        return self.batches.batch_size

    def __len__(self) -> int:
        """Items per epoch, the same on every rank: batches, or lists of them."""
        return -(-len(self.batches) // self.batches_per_call)

    def __iter__(self) -> Iterator[Any]:
        """Batches (inputs, targets); with `batches_per_call` several at a time, to be iterated."""
        # A generator: nothing happens before the first batch is asked for, when the epoch is known.
        epoch, start = self.sampler.epoch, 0
        if self._owner() is not None and self._place[0] == epoch:
            yield from self._made_here(epoch)
            return
        if self._go_back and self._place[0] == epoch:
            start = self._place[1]
        self._go_back = False
        owner = _Owner()
        self._owner = weakref.ref(owner)
        self._place = epoch, start
        for item in self._made_here(epoch, start) if self.front_end is None else self._made_ahead(epoch, start):
            start += 1 if self.batches_per_call == 1 else len(item)
            self._place = epoch, start
            yield item
            del item  # or its memory would be taken while the next one is made
        del owner

    def weight(self, index: int) -> float:
        """What the mean loss of this rank's share counts in its optimizer step; 1.0 exactly where shares are equal.

        Lightning takes the mean over ranks and divides by the accumulated batches; with these factors that is the
        mean over all samples of the step, also where shares differ by a sample or the epoch ends in mid-step.
        """
        first = index - index % self.accumulate
        last = min(first + self.accumulate, max(self.used, index + 1))
        group = self.batches.bounds[last - 1][1] - self.batches.bounds[first][0]
        return self.batches.share(index) * self.batches.world_size * self.accumulate / group

    def samples(self, index: int) -> list[int]:
        """The samples of a batch of the running epoch, on all ranks together, by their place in the data's files."""
        if self.batches_per_call > 1:
            first, last = index * self.batches_per_call, min((index + 1) * self.batches_per_call, len(self.batches))
        else:
            first, last = index, index + 1
        bounds = self.batches.bounds[first][0], self.batches.bounds[last - 1][1]
        chosen: list[int] = self.batches.order(self._place[0])[slice(*bounds)].tolist()
        return chosen

    def not_finite(self, samples: list[int]) -> list[int]:
        """Those of the samples whose stored input or target holds NaN or an infinite number."""
        rows = torch.tensor(samples, device=self.batches.inputs.device)
        bad = torch.zeros(len(samples), dtype=torch.bool)
        for store in (self.batches.inputs, self.batches.targets):
            if store.is_floating_point():
                bad |= ~torch.isfinite(store.index_select(0, rows)).flatten(1).all(1).cpu()
        return [sample for sample, wrong in zip(samples, bad.tolist(), strict=True) if wrong]

    def state_dict(self) -> dict[str, Any]:
        """The place as plain data: that of the next batch, so an exhausted epoch is the start of the next one."""
        epoch, done = self._place
        if done >= len(self.batches):
            epoch, done = epoch + 1, 0
        return {"epoch": epoch, "batch": done, **self._identity(), "batches_per_call": self.batches_per_call}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved place; refuses that of other data, another seed or batch size."""
        ours = self._identity()
        for name, value in ours.items():
            if state.get(name) != value:
                raise MisconfigurationException(_REFUSALS[name].format(saved=state.get(name), ours=value))
        if state["batch"] and state["batches_per_call"] != self.batches_per_call:
            raise MisconfigurationException(
                f"steps_per_call: the checkpoint was saved within an epoch with {state['batches_per_call']}, this run "
                f"has {self.batches_per_call}. Give {state['batches_per_call']}, or resume from the end of an epoch."
            )
        self._place = state["epoch"], state["batch"]
        self._go_back = True
        self.sampler.set_epoch(state["epoch"])

    def close(self) -> None:
        """End worker processes, where there are any; the loader can be used again."""
        if self.front_end is not None:
            self.front_end.close()

    def _identity(self) -> dict[str, Any]:
        return {
            "samples": self.batches.num_samples,
            "data": None if self.data_hash is None else self.data_hash(),
            "batch_size": self.batches.batch_size,
            "seed": self.batches.seed,
        }

    def _made_here(self, epoch: int, start: int = 0) -> Iterator[Any]:
        make, number, step = self.batches.make, len(self.batches), self.batches_per_call
        if step == 1:
            return (make(epoch, index) for index in range(start, number))
        return (SeveralBatches(make, epoch, range(i, min(i + step, number))) for i in range(start, number, step))

    def _made_ahead(self, epoch: int, start: int) -> Iterator[Any]:
        assert self.front_end is not None
        served = self.front_end.serve(epoch, start)
        if self.batches_per_call == 1:
            return served
        return iter(lambda: list(islice(served, self.batches_per_call)), [])


class SeveralBatches:
    """The batches of one call of `training_step`: each is made when it is asked for, so that one fits in the cache."""

    def __init__(
        self, make: Callable[[int, int], Batch], epoch: int, indices: range, device: torch.device | None = None
    ) -> None:
        self._make, self._epoch, self._indices, self._device = make, epoch, indices, device

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Batch:
        """A batch, made anew each time it is asked for."""
        batch = self._make(self._epoch, self._indices[index])
        return batch if self._device is None else (batch[0].to(self._device), batch[1].to(self._device))

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))

    def to(self, device: torch.device, **_: Any) -> SeveralBatches:
        """The same batches, moved when they are made; Lightning asks for it."""
        return SeveralBatches(self._make, self._epoch, self._indices, device)


_REFUSALS = {
    "samples": "data: the checkpoint was saved with {saved} training samples, this run has {ours}. Give the same data, "
    "val_split and train_fraction.",
    "data": "data: the checkpoint was saved with other training data or another split. Give the same data and split.",
    "batch_size": "batch_size: the checkpoint was saved with {saved} samples per batch, this run has {ours}. Give the "
    "same batch_size and accumulation.",
    "seed": "seed_everything: the checkpoint was saved with seed {saved}, this run has {ours}. Give {saved}.",
}

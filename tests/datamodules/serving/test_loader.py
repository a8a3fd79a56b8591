"""The in-memory loader."""

from __future__ import annotations

import weakref
from itertools import chain
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules import InMemoryLoader
from datamodules.serving.batches import Batch, Preparation
from tests.datamodules.fakes import line_batches


def loader(n: int, batch_size: int, **options: object) -> InMemoryLoader:
    """Return a loader of samples whose value is their number."""
    return InMemoryLoader(line_batches(n, batch_size, **options))


def numbers(it: InMemoryLoader) -> list[list[int]]:
    """Return the sample numbers of each batch."""
    return [y.tolist() for _, y in it]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("n", [3, 7, 8, 9, 10, 11, 12, 16, 17, 101])
@pytest.mark.parametrize("batch_size", [3, 4, 8, 1000])
def test_each_sample_occurs_once_and_all_ranks_have_equally_many_batches(
    n: int, batch_size: int, world_size: int, shuffle: bool
) -> None:
    ranks = [loader(n, batch_size, shuffle=shuffle, seed=5, rank=r, world_size=world_size) for r in range(world_size)]
    batches = [numbers(rank) for rank in ranks]
    assert sorted(i for rank in batches for batch in rank for i in batch) == list(range(n))
    assert {len(rank) for rank in batches} == {len(ranks[0])}
    assert all(batch for rank in batches for batch in rank)
    # together the ranks get the batches of a single process
    alone = numbers(loader(n, batch_size, shuffle=shuffle, seed=5))
    for k, together in enumerate(zip(*batches, strict=True)):
        samples = {i for batch in together for i in batch}
        assert set(alone[k]) <= samples
        assert samples == set(alone[k]) or k == len(batches[0]) - 1


def test_a_last_batch_smaller_than_the_number_of_ranks_joins_the_previous_batch() -> None:
    assert [len(loader(10, 3, rank=r, world_size=2)) for r in (0, 1)] == [3, 3]
    assert [[len(b) for b in numbers(loader(10, 3, rank=r, world_size=2))] for r in (0, 1)] == [[2, 2, 2], [1, 1, 2]]


def test_batches_depend_on_seed_and_epoch() -> None:
    first, second, other = loader(50, 8, shuffle=True), loader(50, 8, shuffle=True), loader(50, 8, shuffle=True, seed=1)
    assert numbers(first) == numbers(second) == numbers(first)
    assert numbers(first) != numbers(other)
    epochs = []
    for epoch in range(3):
        first.sampler.set_epoch(epoch)
        epochs.append(numbers(first))
    assert epochs[0] == numbers(second)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_the_global_random_state_is_neither_used_nor_changed() -> None:
    it = loader(50, 8, shuffle=True)
    before = torch.get_rng_state()
    first = numbers(it)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    assert numbers(it) == first


def test_an_iterator_created_before_set_epoch_uses_the_new_epoch() -> None:
    it, reference = loader(50, 8, shuffle=True), loader(50, 8, shuffle=True)
    early = iter(it)
    it.sampler.set_epoch(3)
    reference.sampler.set_epoch(3)
    assert next(early)[1].tolist() == numbers(reference)[0]


def test_the_loader_has_the_attributes_lightning_needs_and_no_dataset() -> None:
    it = loader(10, 4, shuffle=True)
    assert len(it) == 3
    assert it.batch_sampler is None
    assert callable(it.sampler.set_epoch)
    assert not hasattr(it, "dataset")


def test_a_batch_size_above_the_number_of_samples_gives_one_batch() -> None:
    assert numbers(loader(5, 100)) == [[0, 1, 2, 3, 4]]


def test_fewer_samples_than_devices_raise_an_error() -> None:
    with pytest.raises(MisconfigurationException, match="2 samples cannot be divided among 3 devices"):
        loader(2, 4, world_size=3)


def test_only_the_given_indices_are_used() -> None:
    picked = torch.tensor([9, 2, 5])
    assert numbers(loader(10, 2, indices=picked)) == [[9, 2], [5]]
    assert sorted(chain.from_iterable(numbers(loader(10, 2, indices=picked, shuffle=True)))) == [2, 5, 9]


def test_groups_contain_the_same_batches() -> None:
    batches = line_batches(50, 8, shuffle=True)
    plain, grouped = InMemoryLoader(batches), InMemoryLoader(batches, batches_per_call=3)
    calls = list(grouped)
    assert [len(call) for call in calls] == [3, 3, 1]
    assert len(grouped) == 3
    assert [y.tolist() for call in calls for _, y in call] == numbers(plain)
    assert calls[1][2][1].tolist() == numbers(plain)[5]
    moved = [batch for call in calls for batch in call.to(torch.device("meta"))]
    assert [(x.device.type, y.device.type) for x, y in moved] == [("meta", "meta")] * 7


@pytest.mark.parametrize("n", [101, 103])
@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 1), (2, 1), (3, 1), (2, 4), (1, 4)])
def test_weights_give_the_mean_gradient_over_all_samples_of_the_step(n: int, world_size: int, accumulate: int) -> None:
    """Lightning averages over ranks and divides by the accumulated batches, even in a last step with fewer."""
    batch_size = 8
    ranks = [
        InMemoryLoader(line_batches(n, batch_size, rank=rank, world_size=world_size), accumulate=accumulate)
        for rank in range(world_size)
    ]
    shares = [list(rank) for rank in ranks]
    for first in range(0, len(ranks[0]), accumulate):
        step = range(first, min(first + accumulate, len(ranks[0])))
        weight = torch.ones((), dtype=torch.float64, requires_grad=True)
        for rank, share in zip(ranks, shares, strict=True):
            for index in step:
                loss = (weight * share[index][0].double()).square().mean()
                (loss * rank.weight(index) / world_size / accumulate).backward()
        samples = torch.cat([share[index][0] for share in shares for index in step]).double()
        assert weight.grad is not None
        assert weight.grad.item() == pytest.approx(2 * samples.square().mean().item(), rel=1e-12)


def test_equal_shares_have_weight_one() -> None:
    two = InMemoryLoader(line_batches(64, 8, rank=1, world_size=2), accumulate=2)
    assert {two.weight(index) for index in range(len(two))} == {1.0}
    alone = loader(101, 8)
    assert {alone.weight(index) for index in range(len(alone))} == {1.0}


def test_weights_account_for_a_step_cut_short_by_a_limit() -> None:
    cut = InMemoryLoader(line_batches(64, 8), accumulate=4, limit=6)
    assert [cut.weight(index) for index in range(6)] == [1.0] * 4 + [2.0] * 2


def test_a_batch_is_freed_before_the_next_is_made() -> None:
    """With two large batches in memory, the allocator would request new memory at every step."""
    alive: list[weakref.ref[Tensor]] = []

    class Watching(Preparation):
        def __call__(self, *arguments: Any) -> Batch:
            assert all(reference() is None for reference in alive)
            x, y = super().__call__(*arguments)
            alive.append(weakref.ref(x))
            return x, y

    served = iter(InMemoryLoader(line_batches(20, 4, preparation=Watching())))
    while next(served, None) is not None:
        pass
    assert len(alive) == 5

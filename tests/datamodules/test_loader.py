"""The in-memory loader."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import InMemoryLoader


def loader(n: int, batch_size: int, **options: object) -> InMemoryLoader:
    """Samples whose value is their number."""
    return InMemoryLoader(torch.arange(n).unsqueeze(1), torch.arange(n), batch_size, **options)  # type: ignore[arg-type]


def numbers(it: InMemoryLoader) -> list[list[int]]:
    """The sample numbers of each batch."""
    return [y.tolist() for _, y in it]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("n", [3, 7, 8, 9, 10, 11, 12, 16, 17, 100])
@pytest.mark.parametrize("batch_size", [3, 4, 8, 1000])
def test_each_sample_comes_exactly_once_and_all_ranks_have_as_many_batches(
    n: int, batch_size: int, world_size: int, shuffle: bool
) -> None:
    ranks = [loader(n, batch_size, shuffle=shuffle, seed=5, rank=r, world_size=world_size) for r in range(world_size)]
    batches = [numbers(rank) for rank in ranks]
    assert sorted(i for rank in batches for batch in rank for i in batch) == list(range(n))
    assert {len(rank) for rank in batches} == {len(ranks[0])}
    assert all(batch for rank in batches for batch in rank)
    # together the ranks see the batches of a single process
    alone = numbers(loader(n, batch_size, shuffle=shuffle, seed=5))
    for k, together in enumerate(zip(*batches, strict=True)):
        samples = {i for batch in together for i in batch}
        assert set(alone[k]) <= samples
        assert samples == set(alone[k]) or k == len(batches[0]) - 1


def test_a_tail_smaller_than_the_number_of_ranks_joins_the_batch_before() -> None:
    assert [len(loader(10, 3, rank=r, world_size=2)) for r in (0, 1)] == [3, 3]
    assert [[len(b) for b in numbers(loader(10, 3, rank=r, world_size=2))] for r in (0, 1)] == [[2, 2, 2], [1, 1, 2]]


def test_the_same_seed_and_epoch_give_the_same_batches_and_others_do_not() -> None:
    first, second, other = loader(50, 8, shuffle=True), loader(50, 8, shuffle=True), loader(50, 8, shuffle=True, seed=1)
    assert numbers(first) == numbers(second) == numbers(first)
    assert numbers(first) != numbers(other)
    epochs = []
    for epoch in range(3):
        first.sampler.set_epoch(epoch)
        epochs.append(numbers(first))
    assert epochs[0] == numbers(second)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_the_global_random_state_is_neither_used_nor_moved() -> None:
    it = loader(50, 8, shuffle=True)
    before = torch.get_rng_state()
    first = numbers(it)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    assert numbers(it) == first


def test_an_iterator_made_before_the_epoch_is_set_follows_it() -> None:
    it, reference = loader(50, 8, shuffle=True), loader(50, 8, shuffle=True)
    early = iter(it)
    it.sampler.set_epoch(3)
    reference.sampler.set_epoch(3)
    assert next(early)[1].tolist() == numbers(reference)[0]


def test_it_has_what_lightning_looks_for_and_nothing_it_would_rewrap() -> None:
    it = loader(10, 4, shuffle=True)
    assert len(it) == 3
    assert it.batch_sampler is None
    assert callable(it.sampler.set_epoch)
    assert not hasattr(it, "dataset")


def test_a_batch_larger_than_the_data_is_the_whole_data() -> None:
    assert numbers(loader(5, 100)) == [[0, 1, 2, 3, 4]]


def test_fewer_samples_than_devices_are_refused() -> None:
    with pytest.raises(MisconfigurationException, match="2 samples cannot be shared among 3 devices"):
        loader(2, 4, world_size=3)


def test_only_the_given_indices_are_served() -> None:
    picked = torch.tensor([9, 2, 5])
    assert numbers(loader(10, 2, indices=picked)) == [[9, 2], [5]]
    assert sorted(chain.from_iterable(numbers(loader(10, 2, indices=picked, shuffle=True)))) == [2, 5, 9]

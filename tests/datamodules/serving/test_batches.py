"""Batches as a pure function of seed, epoch and index."""

from __future__ import annotations

import pytest
import torch

from datamodules import DigitsDataModule
from datamodules.serving.batches import Batch, Batches, Preparation, Selection
from datamodules.serving.splits import hash_tensors
from tests.datamodules.fakes import Jitter, Mixed, line_batches


def rank_batches(n: int, world_size: int, preparation: Preparation) -> list[Batches]:
    """Return one `Batches` per rank."""
    return [
        line_batches(n, 8, shuffle=True, seed=7, rank=rank, world_size=world_size, preparation=preparation)
        for rank in range(world_size)
    ]


@pytest.mark.parametrize("preparation", [Jitter(), Mixed()], ids=["per sample", "full batch"])
@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("n", [101, 104, 64])
def test_all_ranks_together_get_the_augmented_batches_of_one_process(
    n: int, world_size: int, preparation: Preparation
) -> None:
    (alone,) = rank_batches(n, 1, preparation)
    ranks = rank_batches(n, world_size, preparation)
    # Only the batch joined by the last one differs.
    equal = [index for index, bounds in enumerate(ranks[0].bounds) if bounds == alone.bounds[index]]
    assert len(equal) >= len(alone) - 2
    for epoch in (0, 3):
        for index in equal:
            shares = [rank.make(epoch, index) for rank in ranks]
            x, y = alone.make(epoch, index)
            assert torch.equal(torch.cat([share[0] for share in shares]), x)
            assert torch.equal(torch.cat([share[1] for share in shares]), y)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_sample_occurs_once_with_its_own_random_numbers(world_size: int) -> None:
    """With three ranks the last batch joins the previous one, which does not change any sample's augmentation."""
    n = 97
    ranks = rank_batches(n, world_size, Jitter())
    shares = [rank.make(2, index) for rank in ranks for index in range(len(rank))]
    x, y = (torch.cat(parts) for parts in zip(*shares, strict=True))
    assert sorted(y.tolist()) == list(range(n))
    alone = rank_batches(n, 1, Jitter())[0]
    position = alone.order(2).argsort()
    expected = torch.arange(n).unsqueeze(1) + alone.uniforms(2)[position].sum(1, keepdim=True) + 2
    assert torch.equal(x[y.argsort()], expected)


def test_batches_do_not_depend_on_earlier_requests() -> None:
    first, second = (line_batches(40, 8, shuffle=True, preparation=Mixed()) for _ in range(2))
    forward = [first.make(epoch, index)[0] for epoch in range(3) for index in range(5)]
    backward = [second.make(epoch, index)[0] for epoch in (2, 1, 0) for index in (4, 3, 2, 1, 0)]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))


def test_random_numbers_depend_on_epoch_and_seed() -> None:
    batches, other = (line_batches(40, 8, seed=seed, preparation=Jitter()) for seed in (0, 1))
    assert not torch.equal(batches.uniforms(0), batches.uniforms(1))
    assert not torch.equal(batches.uniforms(0), other.uniforms(0))
    assert batches.uniforms(0).min() >= 0
    assert batches.uniforms(0).max() < 1


def test_no_random_numbers_are_generated_if_none_are_needed() -> None:
    class Asserting(Preparation):
        def __call__(self, inputs: torch.Tensor, targets: torch.Tensor, selection: Selection) -> Batch:
            assert selection.uniforms is None
            return super().__call__(inputs, targets, selection)

    before = torch.get_rng_state()
    batches = line_batches(10, 4, preparation=Asserting())
    assert [batches.make(0, index)[1].tolist() for index in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert torch.equal(before, torch.get_rng_state())


def test_moved_rows_are_prepared_on_the_target_device() -> None:
    """The meta device stands for the accelerator: it has shapes but no values."""
    batches = line_batches(20, 8, indices=torch.arange(3, 20), device=torch.device("meta"))
    x, y = batches.make(0, 2)
    assert (x.device.type, x.shape, y.shape) == ("meta", (1, 1), (1,))
    assert batches.inputs.device.type == "cpu"


def test_hashing_in_chunks_gives_the_same_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.arange(3 * 5 * 4 * 2).view(3, 5, 4, 2).to(torch.uint8)
    full = [hash_tensors(images), hash_tensors(images.permute(0, 3, 1, 2)), hash_tensors(images[:0])]
    monkeypatch.setattr("datamodules.serving.splits._HASH_CHUNK_BYTES", 41)
    assert [hash_tensors(images), hash_tensors(images.permute(0, 3, 1, 2)), hash_tensors(images[:0])] == full
    assert len(set(full)) == 3


def test_moved_batches_equal_batches_from_data_on_the_device() -> None:
    def batch(moved: bool) -> Batch:
        data = DigitsDataModule(batch_size=64, augment=["crop", {"name": "flip", "mode": "alternating"}, "mixup"])
        data.prepare_data()
        data.setup("fit")
        batches = data.train_dataloader().batches
        batches.move_rows = moved  # as if the data were in main memory and the model on a GPU
        return batches.make(1, 3)

    for one, other in zip(batch(False), batch(True), strict=True):
        assert torch.equal(one, other)


def test_a_strong_perspective_of_tiny_images_is_finite() -> None:
    data = DigitsDataModule(batch_size=100, augment=[{"name": "perspective", "distortion": 1.0, "p": 1.0}])
    data.setup("fit")
    batches = data.train_dataloader().batches
    assert all(torch.isfinite(batches.make(0, index)[0]).all() for index in range(len(batches)))

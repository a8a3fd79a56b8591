"""Training and validation split."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import DigitsDataModule, LineDataModule
from datamodules.serving.splits import hash_tensors, quotas, shrink, split_indices


@pytest.mark.parametrize(("val_split", "expected"), [(0.2, 20), (7, 7), (0.005 + 0.01, 2), (0, 0), (0.0, 0)])
def test_every_sample_is_in_exactly_one_split(val_split: float, expected: int) -> None:
    train, val = split_indices(100, val_split, seed=42)
    assert len(val) == expected
    assert sorted(train.tolist() + val.tolist()) == list(range(100))


def test_the_split_depends_only_on_its_own_seed() -> None:
    torch.manual_seed(1)
    first = split_indices(100, 0.2, seed=0)[1]
    torch.manual_seed(2)
    assert torch.equal(first, split_indices(100, 0.2, seed=0)[1])
    assert not torch.equal(first, split_indices(100, 0.2, seed=1)[1])


@pytest.mark.parametrize("val_split", [0.2, 11])
def test_stratified_splits_keep_the_class_proportions(val_split: float) -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [3] * 20)[torch.randperm(100)]
    train, val = split_indices(100, val_split, seed=42, labels=labels)
    count = 20 if val_split == 0.2 else 11
    assert len(val) == count
    assert len(train) == 100 - count
    for label, share in ((0, 0.5), (1, 0.3), (3, 0.2)):
        assert abs(int((labels[val] == label).sum()) - share * count) < 1


def test_a_class_of_one_sample_cannot_be_stratified() -> None:
    labels = torch.tensor([0] * 20 + [1])
    with pytest.raises(MisconfigurationException, match="stratify: class 1 has 1 samples"):
        split_indices(21, 0.5, seed=42, labels=labels)


def test_quotas_sum_to_the_total() -> None:
    assert quotas(torch.tensor([10, 10, 10]), 10).tolist() == [4, 3, 3]
    assert int(quotas(torch.tensor([178, 182, 177, 183]), 101).sum()) == 101


@pytest.mark.parametrize(
    ("val_split", "words"),
    [
        (0.001, "leaves no validation samples"),
        (100, "leaves no training samples"),
        (250, "leaves no training samples"),
    ],
)
def test_an_empty_split_raises_an_error(val_split: float, words: str) -> None:
    with pytest.raises(MisconfigurationException, match=words):
        split_indices(100, val_split, seed=42)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"val_split": -1}, "val_split must be a fraction .* got -1[.]"),
        ({"val_split": 1.0}, "val_split must be a fraction .* got 1[.]0"),
        ({"val_split": -0.1}, "val_split must be a fraction .* got -0[.]1"),
        ({"val_split": True}, "val_split must be a fraction .* got True"),
        ({"split_seed": -3}, "split_seed must be an integer of at least 0, got -3"),
        ({"train_fraction": 0.0}, "train_fraction must be above 0 and at most 1, got 0.0"),
        ({"train_fraction": 1.5}, "train_fraction must be above 0 and at most 1, got 1.5"),
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0"),
        ({"batch_size": -4}, "batch_size must be a positive integer, got -4"),
        ({"target_form": "onehot"}, "target_form must be index or one_hot, got 'onehot'"),
    ],
)
def test_invalid_arguments_raise_an_error_in_the_constructor(options: dict[str, object], words: str) -> None:
    with pytest.raises(MisconfigurationException, match=words):
        DigitsDataModule(**options)


@pytest.mark.parametrize("options", [{"stratify": True}, {"target_form": "one_hot"}])
def test_regression_targets_cannot_be_stratified_or_one_hot(options: dict[str, object]) -> None:
    with pytest.raises(MisconfigurationException, match=next(iter(options))):
        LineDataModule(**options)


def test_train_fraction_does_not_change_the_validation_split() -> None:
    full, part = DigitsDataModule(), DigitsDataModule(train_fraction=0.1)
    full.setup("fit")
    part.setup("fit")
    assert part.split_sizes() == {"train": 115, "val": full.split_sizes()["val"]}
    full_val = torch.cat([y for _, y in full.val_dataloader()])
    part_val = torch.cat([y for _, y in part.val_dataloader()])
    assert torch.equal(full_val, part_val)


def test_a_train_fraction_without_samples_raises_an_error() -> None:
    with pytest.raises(MisconfigurationException, match=r"train_fraction: 0.01 of 10"):
        shrink(torch.arange(10), 0.01, seed=0)


def test_hashes_depend_on_content_shape_and_type() -> None:
    zeros = torch.zeros(4)
    hashes = {hash_tensors(t) for t in (zeros, zeros.view(2, 2), zeros.int(), torch.ones(4), torch.zeros(0))}
    assert len(hashes) == 5
    assert hash_tensors(zeros) == hash_tensors(torch.zeros(4))

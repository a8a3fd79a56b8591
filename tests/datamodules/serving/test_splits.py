"""The split into training and validation."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import DigitsDataModule, LineDataModule
from datamodules.serving.splits import hash_tensors, quotas, shrink, split_indices


@pytest.mark.parametrize(("val_split", "expected"), [(0.2, 20), (7, 7), (0.005 + 0.01, 2), (0, 0), (0.0, 0)])
def test_every_sample_lands_in_exactly_one_part(val_split: float, expected: int) -> None:
    train, val = split_indices(100, val_split, seed=42)
    assert len(val) == expected
    assert sorted(train.tolist() + val.tolist()) == list(range(100))


def test_the_split_depends_on_its_own_seed_only_and_zero_is_a_seed() -> None:
    torch.manual_seed(1)
    first = split_indices(100, 0.2, seed=0)[1]
    torch.manual_seed(2)
    assert torch.equal(first, split_indices(100, 0.2, seed=0)[1])
    assert not torch.equal(first, split_indices(100, 0.2, seed=1)[1])


@pytest.mark.parametrize("val_split", [0.2, 11])
def test_stratified_parts_keep_the_shares_of_the_classes(val_split: float) -> None:
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
        (0.001, "empty validation part"),
        (100, "leaves nothing to train on"),
        (250, "leaves nothing to train on"),
    ],
)
def test_impossible_sizes_are_refused(val_split: float, words: str) -> None:
    with pytest.raises(MisconfigurationException, match=words):
        split_indices(100, val_split, seed=42)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"val_split": -1}, "val_split: -1 is negative"),
        ({"val_split": 1.0}, "val_split: 1.0 is neither"),
        ({"val_split": -0.1}, "val_split: -0.1 is neither"),
        ({"val_split": True}, "val_split: True is no number"),
        ({"split_seed": -3}, "split_seed: -3"),
        ({"train_fraction": 0.0}, "train_fraction: 0.0"),
        ({"train_fraction": 1.5}, "train_fraction: 1.5"),
        ({"batch_size": 0}, "batch_size: 0 is not possible"),
        ({"batch_size": -4}, "batch_size: -4 is not possible"),
        ({"target_form": "onehot"}, "target_form: 'onehot' is not known"),
    ],
)
def test_impossible_arguments_are_refused_by_the_constructor(options: dict[str, object], words: str) -> None:
    with pytest.raises(MisconfigurationException, match=words):
        DigitsDataModule(**options)


@pytest.mark.parametrize("options", [{"stratify": True}, {"target_form": "one_hot"}])
def test_numbers_have_no_classes_to_stratify_or_encode(options: dict[str, object]) -> None:
    with pytest.raises(MisconfigurationException, match=next(iter(options))):
        LineDataModule(**options)


def test_a_train_fraction_leaves_the_validation_part_alone() -> None:
    whole, part = DigitsDataModule(), DigitsDataModule(train_fraction=0.1)
    whole.setup("fit")
    part.setup("fit")
    assert part.split_sizes() == {"train": 115, "val": whole.split_sizes()["val"]}
    whole_val = torch.cat([y for _, y in whole.val_dataloader()])
    part_val = torch.cat([y for _, y in part.val_dataloader()])
    assert torch.equal(whole_val, part_val)


def test_a_train_fraction_of_nothing_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match=r"train_fraction: 0.01 of 10"):
        shrink(torch.arange(10), 0.01, seed=0)


def test_hashes_tell_content_shape_and_type_apart() -> None:
    zeros = torch.zeros(4)
    hashes = {hash_tensors(t) for t in (zeros, zeros.view(2, 2), zeros.int(), torch.ones(4), torch.zeros(0))}
    assert len(hashes) == 5
    assert hash_tensors(zeros) == hash_tensors(torch.zeros(4))

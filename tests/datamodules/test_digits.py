"""The digits included in scikit-learn."""

from __future__ import annotations

import torch

from datamodules import DigitsDataModule
from datamodules.digits import digits_test_indices


def test_the_test_split_does_not_depend_on_seeds() -> None:
    tests = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        data = DigitsDataModule(split_seed=seed)
        data.setup("fit")
        data.setup("test")
        assert data.split_sizes() == {"train": 1150, "val": 287, "test": 360}
        tests.append(data.hashes()["test_data"])
    assert tests[0] == tests[1]


def test_the_test_split_is_stratified_and_disjoint() -> None:
    data = DigitsDataModule()
    (train_x, train_y), (test_x, test_y) = data.load_part("train"), data.load_part("test")
    assert len(train_y) + len(test_y) == 1797
    shares = test_y.bincount() / (train_y.bincount() + test_y.bincount())
    assert float((shares - 360 / 1797).abs().max()) < 0.006
    rows = {bytes(image) for image in train_x.numpy()}
    assert not [image for image in test_x.numpy() if bytes(image) in rows]


def test_the_test_indices_are_deterministic_and_stratified() -> None:
    labels = torch.arange(10).repeat(180)
    indices = digits_test_indices(labels)
    assert len(indices) == 360
    assert indices.unique().equal(indices)
    assert labels[indices].bincount().tolist() == [36] * 10


def test_batches_are_normalized_images() -> None:
    data = DigitsDataModule(batch_size=2000, val_split=0)
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == (1437, *DigitsDataModule.input_shape)
    assert abs(float(x.mean())) < 0.01
    assert abs(float(x.std()) - 1) < 0.01
    assert y.dtype == torch.int64

"""Synthetic problems with a known solution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from sklearn.datasets import make_regression
from sklearn.linear_model import LogisticRegression

from datamodules import (
    LineDataModule,
    MoonsDataModule,
    NoisyRegressionDataModule,
    PlanesDataModule,
    PureNoiseDataModule,
    SineDataModule,
    SyntheticDataModule,
    ThresholdDataModule,
)

KINDS: list[type[SyntheticDataModule]] = [
    LineDataModule,
    MoonsDataModule,
    NoisyRegressionDataModule,
    PlanesDataModule,
    PureNoiseDataModule,
    SineDataModule,
    ThresholdDataModule,
]
all_kinds = pytest.mark.parametrize("kind", KINDS)


@all_kinds
def test_data_properties_and_batches_agree(kind: Any) -> None:
    data = kind()
    data.setup("fit")
    data.setup("test")
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        x, y = next(iter(loader))
        assert x.shape[1:] == data.input_shape
        assert x.dtype == torch.float32
        if data.num_classes is None:
            assert y.shape == (len(x), data.num_targets)
            assert y.dtype == torch.float32
        else:
            assert y.shape == (len(x),)
            assert y.dtype == torch.int64
            assert len(data.class_names) == data.num_classes
            assert 0 <= int(y.min()) <= int(y.max()) < data.num_classes


@all_kinds
def test_samples_depend_only_on_the_data_seed(kind: Any) -> None:
    torch.manual_seed(1)
    first = kind(data_seed=0, num_samples=50)
    torch.manual_seed(2)
    again, other = kind(data_seed=0, num_samples=50, split_seed=7), kind(data_seed=1, num_samples=50)
    for part in ("train", "test"):
        assert torch.equal(first.load_part(part)[0], again.load_part(part)[0])
        if (kind, part) != (ThresholdDataModule, "train"):  # evenly spaced, not random
            assert not torch.equal(first.load_part(part)[0], other.load_part(part)[0])


@all_kinds
def test_the_test_split_is_generated_separately(kind: Any) -> None:
    small, large = kind(num_samples=60, test_samples=10), kind(num_samples=60, test_samples=60)
    assert torch.equal(small.load_part("train")[0], large.load_part("train")[0])
    train, test = large.load_part("train")[0], large.load_part("test")[0]
    assert len(test) == 60
    assert not {tuple(row) for row in train.tolist()} & {tuple(row) for row in test.tolist()}


def test_a_line_without_noise_is_exact() -> None:
    x, y = LineDataModule(noise=0.0, num_samples=20, spacing="even").load_part("train")
    assert x.squeeze(1).tolist() == pytest.approx(np.linspace(0, 10, 20).tolist())
    assert torch.allclose(y, 3 * x + 2)
    x, y = LineDataModule(
        slope=2.0, intercept=1.0, noise=0.0, low=1.0, high=4.0, num_samples=4, spacing="even"
    ).load_part("train")
    assert torch.cat([x, y], 1).tolist() == [[1, 3], [2, 5], [3, 7], [4, 9]]


def test_noise_has_the_stated_standard_deviation() -> None:
    x, y = LineDataModule(num_samples=20_000).load_part("train")
    residual = y - 3 * x - 2
    assert float(residual.std()) == pytest.approx(1.5, rel=0.03)
    assert abs(float(residual.mean())) < 0.05
    assert float(x.min()) >= 0
    assert float(x.max()) <= 10


def test_sine_is_the_sine() -> None:
    x, y = SineDataModule().load_part("train")
    assert torch.equal(y, x.sin())
    assert float(x.abs().max()) <= np.pi


def test_threshold_defaults_are_four_points_around_two() -> None:
    x, y = ThresholdDataModule().load_part("train")
    assert x.squeeze(1).tolist() == [1, 2, 3, 4]
    assert y.tolist() == [0, 0, 1, 1]
    x, y = ThresholdDataModule(boundary=0.0, low=-5.0, high=5.0, num_samples=200, spacing="random").load_part("train")
    assert torch.equal(y, (x.squeeze(1) > 0).long())
    assert len(y) == 200


def test_noisy_regression_is_scikit_learns() -> None:
    data = NoisyRegressionDataModule(data_seed=3, test_samples=5000)
    x, y, slope = make_regression(100, 1, n_informative=1, noise=10.0, coef=True, random_state=3)
    inputs, targets = data.load_part("train")
    assert np.allclose(inputs.numpy(), x, atol=1e-5)
    assert np.allclose(targets.squeeze(1).numpy(), y, rtol=1e-4, atol=1e-4)
    inputs, targets = data.load_part("test")
    assert float((targets - inputs * float(slope)).std()) == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("features", [1, 2, 10])
def test_one_plane_separates_both_splits_with_the_margin(features: int) -> None:
    data = PlanesDataModule(num_features=features, margin=0.5)
    x, y = data.load_part("train")
    model = LogisticRegression(C=1e4, max_iter=5000).fit(x.numpy(), y.numpy())
    assert model.score(x.numpy(), y.numpy()) == 1.0
    test_x, test_y = data.load_part("test")
    assert model.score(test_x.numpy(), test_y.numpy()) > 0.98
    distance = min(
        float(torch.cdist(x[y == 0], x[y == 1]).min()), float(torch.cdist(x[y == 0], test_x[test_y == 1]).min())
    )
    assert distance >= 1.0 - 1e-4


def test_pure_noise_cannot_be_learned() -> None:
    data = PureNoiseDataModule(num_classes=3, num_samples=300, test_samples=3000)
    (x, y), (test_x, test_y) = data.load_part("train"), data.load_part("test")
    score = LogisticRegression().fit(x.numpy(), y.numpy()).score(test_x.numpy(), test_y.numpy())
    assert abs(score - 1 / 3) < 0.05
    assert data.num_classes == 3


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (LineDataModule, {"num_samples": 0}, "num_samples must be a positive integer, got 0"),
        (LineDataModule, {"test_samples": -1}, "test_samples must be a positive integer, got -1"),
        (LineDataModule, {"noise": -1.0}, "noise must be a number of at least 0, got -1.0"),
        (LineDataModule, {"low": 3.0, "high": 3.0}, "low must be below high, got 3.0 and 3.0"),
        (SineDataModule, {"spacing": "evenly"}, "spacing must be random or even, got 'evenly'"),
        (MoonsDataModule, {"noise": -0.1}, "noise must be a number of at least 0, got -0.1"),
        (MoonsDataModule, {"data_seed": -1}, "data_seed must be .* got -1"),
        (ThresholdDataModule, {"boundary": 9.0}, "boundary must be at least low and below high, got 9.0"),
        (PlanesDataModule, {"margin": -1.0}, "margin must be a number of at least 0, got -1.0"),
        (PlanesDataModule, {"num_features": 0}, "num_features must be a positive integer, got 0"),
        (PureNoiseDataModule, {"num_classes": 1}, "num_classes must be an integer of at least 2, got 1"),
        (NoisyRegressionDataModule, {"num_features": 0}, "num_features must be a positive integer, got 0"),
    ],
)
def test_invalid_arguments_raise_an_error(kind: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(MisconfigurationException, match=words):
        kind(**options)

"""Transforms of resized images, and sizes that a transform or a network does not accept."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from datamodules.augmentation.image_preparation import AugmentedPreparation
from datamodules.augmentation.specs import build_transforms
from datamodules.serving.batches import Selection
from tests.datamodules.augmentation.test_image_preparation import RandomImages, module


def resized_batch(augment: list[Any], images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the batch of an early epoch, without normalization."""
    preparation = AugmentedPreparation(*build_transforms(augment), lambda x, y: (x.float(), y), num_classes=4)
    numbers = torch.rand(len(images), preparation.num_uniforms, generator=torch.Generator().manual_seed(3))
    return preparation(images, targets, Selection(torch.arange(len(images)), numbers))


def test_cutmix_after_resize_weights_targets_by_the_resized_pixels() -> None:
    labels = torch.arange(64) % 4
    images = (labels * 60).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32).contiguous()
    x, y = resized_batch([{"name": "resize", "size": 24, "epochs": 8}, "cutmix"], images, labels)
    assert x.shape[2:] == (24, 24)
    shares = torch.stack([(x[:, 0] / 60).round().eq(label).float().mean((1, 2)) for label in range(4)], dim=1)
    assert torch.allclose(y, shares, atol=1e-5)
    assert 0 < float(y.max(1).values.min()) < 1


@pytest.mark.parametrize("steps", [["cutout"], ["crop", "cutout"]], ids=str)
def test_cutout_after_resize_is_centered_in_the_small_image(steps: list[Any]) -> None:
    augment = [*steps[:-1], {"name": "resize", "size": 8}, {"name": "cutout", "size": 1}]
    images = torch.full((200, 3, 32, 32), 255, dtype=torch.uint8)
    x, _ = resized_batch(augment, images, torch.zeros(200, dtype=torch.int64))
    assert x.shape[2:] == (8, 8)
    if steps == ["cutout"]:
        assert (x[:, 0] == 0).sum((1, 2)).eq(1).all()
    else:
        assert (x[:, 0] == 0).flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        (
            [{"name": "crop", "padding": 10, "mode": "reflect"}],
            "crop: padding=10 with mode=reflect is too large for images of 10x14. Use at most 9, or mode=zeros.",
        ),
        ([{"name": "blur", "kernel": 21}], "blur: kernel=21 is too large for images of 10x14. Use at most 19."),
        ([{"name": "resize", "size": 11}], "resize: size=11 would enlarge images of 10x14. Use at most 10."),
        (
            [{"name": "resize", "size": 5}, {"name": "crop", "padding": 5, "mode": "reflect"}],
            "crop: padding=5 with mode=reflect is too large for images of 5x7. Use at most 4, or mode=zeros.",
        ),
        ([{"name": "resize", "size": 5}, {"name": "blur", "kernel": 11}], "images of 5x7. Use at most 9."),
    ],
    ids=str,
)
def test_images_too_small_for_a_transform_are_reported_before_training(augment: Any, words: str) -> None:
    made = module(augment)
    with pytest.raises(MisconfigurationException) as caught:
        made.train_dataloader()
    assert str(caught.value).startswith("augment: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "step",
    [
        {"name": "crop", "padding": 9, "mode": "reflect"},
        {"name": "crop", "padding": 30},
        {"name": "blur", "kernel": 19},
        {"name": "resize", "size": 10},
        {"name": "resize", "size": 11, "epochs": 0},
    ],
    ids=str,
)
def test_the_largest_possible_size_works(step: dict[str, Any]) -> None:
    x, _ = next(iter(module([step]).train_dataloader()))
    assert x.shape == (32, 3, 10, 14)


class Tiny(pl.LightningModule):
    """A network for one image size or for any; it records the sizes of its training batches."""

    def __init__(self, any_size: bool) -> None:
        super().__init__()
        pool: list[nn.Module] = [nn.AdaptiveAvgPool2d(1)] if any_size else []
        pixels = 1 if any_size else 140
        self.net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), *pool, nn.Flatten(), nn.Linear(3 * pixels, 4))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        made: Tensor = self.net(x)
        return made

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the cross entropy."""
        assert all(each.training for each in self.net)
        self.seen.append(tuple(batch[0].shape[2:]))
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Do nothing."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(network: Tiny, data: RandomImages) -> None:
    """Train for two epochs."""
    trainer = pl.Trainer(
        max_epochs=2,
        limit_train_batches=2,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(network, datamodule=data)


def test_a_network_for_one_size_is_reported_before_training() -> None:
    network = Tiny(any_size=False)
    with pytest.raises(MisconfigurationException) as caught:
        fit(network, module([{"name": "resize", "size": 5}]))
    assert str(caught.value) == (
        "augment: resize: Tiny accepts only images of 10x14. Remove resize, or use a network for any size such as "
        "LitSpeedNet or LitResNet."
    )
    assert not network.seen


def test_checking_a_network_does_not_change_it() -> None:
    network = Tiny(any_size=True)
    network.net[1].eval()  # frozen by its owner
    data = module([{"name": "resize", "size": 5}])
    data.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.trainer.strategy.connect(network)
    before, state = torch.get_rng_state(), {name: value.clone() for name, value in network.state_dict().items()}
    data.preparation(True)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert network.net[0].training
    assert not network.net[1].training
    network.train()
    fit(network, module([{"name": "resize", "size": 5}]))
    assert network.seen == [(5, 7), (5, 7), (10, 14), (10, 14)]


def test_an_error_of_the_network_itself_is_not_attributed_to_resize() -> None:
    network = Tiny(any_size=False)
    network.net[3] = nn.Linear(7, 4)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fit(network, module([{"name": "resize", "size": 5}]))

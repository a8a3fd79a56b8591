"""Whitening, initialization and argument errors of the network for short runs."""

import pytest
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lit_models import LitSpeedNet, SpeedNet
from lit_models.speed_net import whitening_filters


def _images(count: int = 400) -> torch.Tensor:
    """Return smooth images, with correlated neighboring pixels and colors as in photographs."""
    rough = torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(rough, size=(16, 16), mode="bilinear", align_corners=False)
    return smooth + smooth.mean(1, keepdim=True)


def test_whitened_patches_are_uncorrelated_with_equal_variance() -> None:
    images = _images()
    filters = whitening_filters(images, kernel=2, eps=0.0)
    assert filters.shape == (24, 3, 2, 2)
    assert torch.equal(filters[12:], -filters[:12])
    responses = torch.nn.functional.conv2d(images, filters[:12]).permute(1, 0, 2, 3).flatten(1)
    torch.testing.assert_close(torch.cov(responses), torch.eye(12), atol=0.02, rtol=0.0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 17, 40)])
def test_images_of_any_size_from_8_pixels(shape) -> None:
    net = SpeedNet(shape[0], 5, widths=(8, 16, 16))
    assert net(torch.randn(2, *shape)).shape == (2, 5)


def test_the_first_layer_is_computed_from_the_data_before_training(trainer, loader) -> None:
    images = _images(64)

    class Data(LightningDataModule):
        def sample_inputs(self, n: int) -> torch.Tensor:
            return images[:n]

        def train_dataloader(self):
            return loader(images, torch.arange(64) % 2, batch_size=32)

    model = LitSpeedNet((3, 16, 16), 2, widths=(8,), whitening_samples=50, optimizer={"name": "muon", "lr": 0.1})
    trainer().fit(model, Data())
    assert torch.equal(model.net.whitening.weight, whitening_filters(images[:50]))
    assert not torch.equal(model.net.whitening.bias, torch.zeros(24))  # the bias is trained


def test_wrong_arguments_are_named_in_errors() -> None:
    for settings, word in (
        ({"widths": []}, "widths"),
        ({"whitening_kernel": 16}, "whitening_kernel"),
        ({"scale": 0.0}, "scale"),
        ({"whitening_samples": -1}, "whitening_samples"),
    ):
        with pytest.raises(MisconfigurationException, match=word):
            LitSpeedNet((3, 16, 16), 2, **settings)
    with pytest.raises(MisconfigurationException, match="kernel"):
        whitening_filters(torch.zeros(2, 3, 4, 4), kernel=5)
    with pytest.raises(MisconfigurationException, match="channels"):
        SpeedNet(3, 2).whiten(torch.zeros(2, 1, 8, 8))

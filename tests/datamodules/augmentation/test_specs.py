"""Specs of the augmentation: names, options, class paths, and errors in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import DigitsDataModule, LineDataModule
from tests.datamodules.augmentation.test_image_preparation import FITTING, batches, module

POSTERIZE = {"class_path": "torchvision.transforms.v2.RandomPosterize", "init_args": {"bits": 2, "p": 0.5}}


def test_every_name_works_alone_and_is_saved_as_plain_data() -> None:
    for name, step in FITTING.items():
        made = module([step])
        assert made.hparams["augment"] == [step]
        x, _ = next(iter(made.train_dataloader()))
        assert x.shape == ((32, 3, 8, 11) if name == "resize" else (32, 3, 10, 14))
        assert x.isfinite().all()
    assert module(({"name": "crop", "padding": 2}, {"name": "flip"})).hparams["augment"] == [
        {"name": "crop", "padding": 2},
        "flip",
    ]
    assert "augment" not in LineDataModule().hparams


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        (["corp"], "unknown transform 'corp'. Did you mean crop?"),
        (["xyz"], "unknown transform 'xyz'. Known transforms: crop, flip, "),
        ([{"name": "crop", "paddin": 2}], "crop has no option 'paddin'. Did you mean padding?"),
        ([{"name": "flip", "zzz": 2}], "flip has no option 'zzz'. Its options: p, mode."),
        (
            [{"name": "crop", "padding": "x"}],
            "crop: padding must be a positive integer, got 'x'. Change it in data.augment.",
        ),
        ([{"name": "crop", "padding": 0}], "crop: padding must be a positive integer, got 0"),
        ([{"name": "crop", "padding": True}], "crop: padding must be a positive integer, got True"),
        (
            [{"name": "crop", "mode": "reflekt"}],
            "crop: mode must be zeros or reflect, got 'reflekt'. Did you mean reflect?",
        ),
        ([{"name": "flip", "p": 1.5}], "flip: p must be a number from 0 to 1, got 1.5. Change it in data.augment."),
        ([{"name": "flip", "p": float("nan")}], "flip: p must be a number from 0 to 1, got nan"),
        ([{"name": "shift", "size": 1.5}], "shift: size must be a positive integer, got 1.5"),
        ([{"name": "shift", "size": -1}], "shift: size must be a number of at least 0, got -1"),
        ([{"name": "cutout", "size": 2.5}], "cutout: size must be a positive integer, got 2.5"),
        (
            [{"name": "erasing", "scale": [0.5, 0.1]}],
            "erasing: scale=[0.5, 0.1] is in the wrong order. Put the smaller",
        ),
        ([{"name": "erasing", "scale": 0.5}], "erasing: scale must be two numbers [low, high], got 0.5"),
        ([{"name": "blur", "kernel": 4}], "blur: kernel must be odd, got 4. Set kernel: 5."),
        ([{"name": "color_jitter", "hue": 0.6}], "color_jitter: hue must be a number from 0 to 0.5, got 0.6"),
        ([{"name": "mixup", "alpha": 0}], "mixup: alpha must be a number from 0.01 to 100, got 0"),
        (["mixup", "flip"], "'flip' comes after mixup, which mixes normalized batches. Move it before."),
        ([{"padding": 4}], "has no name. Write {name: crop, padding: 4}."),
        ([3], "each entry must be a name or a mapping, got 3"),
        (4, "augment must be a list, got 4"),
        (["torchvision.transforms.v2.Posterise"], "has no class 'Posterise'."),
        (["torchvision.nothing.X"], "cannot import 'torchvision.nothing.X'"),
        ([{**POSTERIZE, "init_args": {"bit": 2}}], "RandomPosterize(bit=2) fails"),
        ([{**POSTERIZE, "init_args": {"bits": -1}, "name": "crop"}], "crop has no option 'class_path'."),
    ],
    ids=str,
)
def test_an_invalid_spec_is_reported_in_one_line(augment: Any, words: str) -> None:
    with pytest.raises(MisconfigurationException) as caught:
        module(augment)
    assert str(caught.value).startswith(("augment: ", "augment must be "))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_torchvision_transform_runs_on_one_image_at_a_time() -> None:
    spec = [POSTERIZE, {"class_path": "torchvision.transforms.v2.GaussianNoise"}, "flip"]
    alone, again = batches(spec), batches(spec)
    ranks = [batches(spec, rank=rank, world_size=2) for rank in range(2)]
    before = torch.get_rng_state()
    x = alone.make(2, 1)[0]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(x, again.make(2, 1)[0])
    assert torch.allclose(x, torch.cat([rank.make(2, 1)[0] for rank in ranks]), atol=1e-6)
    posterized = batches([POSTERIZE]).make(0, 0)[0]
    levels = torch.tensor([len(image[0].unique()) for image in posterized])
    assert set((levels <= 4).tolist()) == {True, False}  # some images changed, others did not


def test_digits_are_passed_to_torchvision_as_floats() -> None:
    x, _ = next(
        iter(DigitsDataModule(augment=[{"class_path": "torchvision.transforms.v2.RandomInvert"}]).train_dataloader())
    )
    assert x.isfinite().all()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("torchvision.transforms.v2.CenterCrop", "tensor of shape (3, 10, 14), got torch.uint8 (3, 4, 4)"),
        ("torchvision.transforms.v2.ToPILImage", "got Image"),
        ("torchvision.transforms.v2.LinearTransformation", "fails on an image"),
    ],
)
def test_an_unsuitable_transform_is_reported_before_training(path: str, words: str) -> None:
    init_args: dict[str, Any] = {"size": 4} if path.endswith("CenterCrop") else {}
    if path.endswith("LinearTransformation"):
        init_args = {"transformation_matrix": torch.eye(3), "mean_vector": torch.zeros(3)}
    made = module([{"class_path": path, "init_args": init_args}])
    with pytest.raises(MisconfigurationException) as caught:
        made.train_dataloader()
    assert words in str(caught.value)


def test_the_deprecated_name_greyscale_warns() -> None:
    with pytest.warns(UserWarning, match=r"greyscale is deprecated\. Use grayscale\."):
        old = batches(["greyscale"])
    assert torch.equal(old.make(0, 0)[0], batches(["grayscale"]).make(0, 0)[0])

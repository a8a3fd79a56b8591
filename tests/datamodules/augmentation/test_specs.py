"""How augmentation is told: names, settings, class paths, and the mistakes among them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import DigitsDataModule, LineDataModule
from tests.datamodules.augmentation.test_chain import FITTING, batches, module

POSTERIZE = {"class_path": "torchvision.transforms.v2.RandomPosterize", "init_args": {"bits": 2, "p": 0.5}}


def test_every_name_works_alone_and_is_kept_as_plain_data() -> None:
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
        (["corp"], "'corp' is not known. Did you mean crop?"),
        (["xyz"], "'xyz' is not known. Known are crop, flip, "),
        ([{"name": "crop", "paddin": 2}], "crop has no setting 'paddin'. Did you mean padding?"),
        ([{"name": "flip", "zzz": 2}], "flip has no setting 'zzz'. It has p, mode."),
        ([{"name": "crop", "padding": "x"}], "crop: padding='x' is not possible. Give a whole number of at least 1."),
        ([{"name": "crop", "padding": 0}], "crop: padding=0 is not possible"),
        ([{"name": "crop", "padding": True}], "crop: padding=True is not possible"),
        ([{"name": "crop", "mode": "reflekt"}], "crop: mode='reflekt' is not known. Did you mean reflect?"),
        ([{"name": "flip", "p": 1.5}], "flip: p=1.5 is not possible. Give a number from 0 to 1."),
        ([{"name": "flip", "p": float("nan")}], "flip: p=nan is not possible"),
        ([{"name": "shift", "size": 1.5}], "shift: size=1.5 is not possible"),
        ([{"name": "shift", "size": -1}], "shift: size=-1 is not possible"),
        ([{"name": "cutout", "size": 2.5}], "cutout: size=2.5 is not possible"),
        ([{"name": "erasing", "scale": [0.5, 0.1]}], "erasing: scale=[0.5, 0.1] is not possible. Put the smaller"),
        ([{"name": "erasing", "scale": 0.5}], "erasing: scale=0.5 is not possible. Give two numbers"),
        ([{"name": "blur", "kernel": 4}], "blur: kernel=4 is not possible. Give an odd number."),
        ([{"name": "color_jitter", "hue": 0.6}], "color_jitter: hue=0.6 is not possible"),
        ([{"name": "mixup", "alpha": 0}], "mixup: alpha=0 is not possible"),
        (["mixup", "flip"], "'flip' stands after mixup, which mixes finished batches. Put it before."),
        ([{"padding": 4}], "has no name. Write {name: crop, padding: 4}."),
        ([3], "3 is neither a name nor a dictionary"),
        (4, "4 is no list"),
        (["torchvision.transforms.v2.Posterise"], "has no class 'Posterise'."),
        (["torchvision.nothing.X"], "'torchvision.nothing.X' cannot be imported"),
        ([{**POSTERIZE, "init_args": {"bit": 2}}], "RandomPosterize(bit=2) is refused"),
        ([{**POSTERIZE, "init_args": {"bits": -1}, "name": "crop"}], "crop has no setting 'class_path'."),
    ],
    ids=str,
)
def test_a_mistake_is_told_in_one_line(augment: Any, words: str) -> None:
    with pytest.raises(MisconfigurationException) as caught:
        module(augment)
    assert str(caught.value).startswith("augment: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_transform_of_torchvision_works_image_by_image() -> None:
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
    assert set((levels <= 4).tolist()) == {True, False}  # some were, others not


def test_digits_are_given_to_torchvision_as_floats() -> None:
    x, _ = next(
        iter(DigitsDataModule(augment=[{"class_path": "torchvision.transforms.v2.RandomInvert"}]).train_dataloader())
    )
    assert x.isfinite().all()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("torchvision.transforms.v2.CenterCrop", "makes torch.uint8 (3, 4, 4) of an image (3, 10, 14)"),
        ("torchvision.transforms.v2.ToPILImage", "makes a Image of an image"),
        ("torchvision.transforms.v2.LinearTransformation", "cannot be applied to an image"),
    ],
)
def test_a_transform_that_does_not_fit_is_told_before_training(path: str, words: str) -> None:
    settings: dict[str, Any] = {"size": 4} if path.endswith("CenterCrop") else {}
    if path.endswith("LinearTransformation"):
        settings = {"transformation_matrix": torch.eye(3), "mean_vector": torch.zeros(3)}
    made = module([{"class_path": path, "init_args": settings}])
    with pytest.raises(MisconfigurationException) as caught:
        made.train_dataloader()
    assert words in str(caught.value)

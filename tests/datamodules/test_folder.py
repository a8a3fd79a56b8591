"""Image folders: pixels, labels, data properties and options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image, UnidentifiedImageError

from datamodules import ImageFolderDataModule
from datamodules.files.image_files import read_image
from datamodules.serving.splits import hash_tensors
from tests.data.makers import CIFAR_CLASSES, make_image_folder


def folder(**options: Any) -> ImageFolderDataModule:
    """Return a datamodule of the folder named by LITLAB_DATA_DIR."""
    module = ImageFolderDataModule(**options)
    module.prepare_data()
    return module


def test_images_are_sorted_by_class_and_name_and_normalized_by_the_training_images(data: Path) -> None:
    make_image_folder(data, ending="png")
    module = folder(batch_size=32)
    module.setup("fit")
    images, labels = module.load_part("train")
    assert (images.shape, images.dtype) == ((200, 3, 32, 32), torch.uint8)
    names = sorted(str(path.relative_to(data)) for path in (data / "train").rglob("*.png"))
    assert len(names) == 200
    for number in (0, 57, 199):
        with Image.open(data / names[number]) as file:
            assert torch.equal(images[number], torch.from_numpy(np.array(file)).permute(2, 0, 1))
        assert module.class_names[int(labels[number])] == names[number].split("/")[1]
    train, val = module.split(len(images), labels)
    assert (len(train), len(val)) == (160, 40)
    pixels = images[train].double() / 255
    assert module.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert module.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-12)
    x, y = next(iter(module.train_dataloader()))
    assert (x.shape, x.dtype, y.dtype) == ((32, 3, 32, 32), torch.float32, torch.int64)
    assert module.split_sizes() == {"train": 160, "val": 40}


def test_test_images_are_normalized_like_training_images(data: Path) -> None:
    make_image_folder(data)
    trained, tested = folder(), folder()
    trained.setup("fit")
    tested.setup("test")
    assert tested.split_sizes() == {"test": 50}
    assert (tested.mean, tested.std) == (trained.mean, trained.std)
    given = folder(mean=[0.5] * 3, std=[0.2] * 3)
    given.setup("fit")
    assert (given.mean, given.std) == ((0.5,) * 3, (0.2,) * 3)


def test_the_hash_is_that_of_the_tensors(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_image_folder(data)
    first, again = folder(), folder()
    for module in (first, again):
        module.setup("fit")
        module.setup("test")
    assert first.hashes() == again.hashes()
    assert first.hashes()["train_data"] == hash_tensors(*first.load_part("train"))
    assert first.hashes()["test_data"] == hash_tensors(*first.load_part("test"))


def test_data_properties_are_known_before_decoding(data: Path, tmp_path: Path) -> None:
    make_image_folder(data, size=24)
    assert folder().input_shape == (3, 24, 24)
    assert folder(channels=1).input_shape == (1, 24, 24)
    assert folder(image_size=16).input_shape == (3, 16, 16)
    assert folder(image_size=[8, 12]).input_shape == (3, 8, 12)
    assert folder().num_classes == 10
    assert folder().class_names == tuple(CIFAR_CLASSES)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("options", [{"split_seed": 1}, {"split_seed": 2, "val_split": 0.6}, {"train_fraction": 0.3}])
def test_mean_and_std_are_those_of_the_training_split_alone(data: Path, options: dict[str, Any]) -> None:
    make_image_folder(data, size=9, ending="png")
    module = folder(**options)
    module.setup("fit")
    train, _ = module.split_sizes().values()
    batches = folder(**options, batch_size=train, mean=[0.0] * 3, std=[1.0] * 3)
    images, _ = next(iter(batches.train_dataloader()))  # the pixels of the training split, scaled to 0..1
    pixels = np.rint(images.numpy().astype(np.float64) * 255) / 255
    assert module.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert module.std == pytest.approx(pixels.std((0, 2, 3)).tolist(), abs=1e-12)
    tested = folder(**options)
    tested.setup("test")
    assert (tested.mean, tested.std) == (module.mean, module.std)
    assert tested.split_sizes() == {"test": 50}


def test_split_seeds_have_their_own_mean(data: Path) -> None:
    make_image_folder(data)
    means = set()
    for seed in (1, 2):
        module = folder(split_seed=seed)
        module.setup("fit")
        means.add(module.mean)
    assert len(means) == 2


def test_a_run_that_stored_no_properties_keeps_its_normalization(data: Path) -> None:
    make_image_folder(data, ending="png")
    module = folder()
    module.use_model_properties({})
    module.setup("fit")
    pixels = np.stack([np.asarray(Image.open(path)) for path in (data / "train").rglob("*.png")]) / 255
    assert module.mean == pytest.approx(pixels.mean((0, 1, 2)).tolist(), abs=1e-12)


@pytest.mark.parametrize(
    ("entry", "value"),
    [("mean", [0.5, 0.5]), ("mean", "0.5"), ("std", [0.1, 0.2, None]), ("class_names", "cat"), ("class_names", [1, 2])],
)
def test_corrupted_properties_are_rejected(data: Path, entry: str, value: Any) -> None:
    make_image_folder(data, train=20, test=10)
    saved = folder(mean=[0.5] * 3, std=[0.2] * 3).model_properties()
    with pytest.raises(MisconfigurationException, match=f"{entry} stored with the run"):
        folder().use_model_properties({**saved, entry: value})


def test_a_val_folder_is_the_validation_split(data: Path) -> None:
    make_image_folder(data, val=30)
    module = folder()
    module.setup("fit")
    assert module.split_sizes() == {"train": 200, "val": 30}
    labels = torch.cat([y for _, y in module.val_dataloader()])
    assert labels.tolist() == sorted(labels.tolist())
    with_split = make_image_folder(data.with_name("without"))
    alone = ImageFolderDataModule(data_dir=str(with_split), val_split=0)
    alone.setup("fit")
    assert module.mean == alone.mean  # of the training images only
    without = folder(val_split=0)
    without.setup("fit")
    assert without.split_sizes() == {"train": 200, "val": 0}


def test_hidden_and_other_files_are_skipped(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_image_folder(data)
    (data / "train" / ".ipynb_checkpoints").mkdir()
    (data / "train" / "cat" / ".hidden.jpg").write_bytes(b"no image")
    (data / "train" / "cat" / "Thumbs.db").write_bytes(b"no image")
    below = data / "train" / "cat" / "more"
    below.mkdir()
    (data / "train" / "cat" / "0000.jpg").rename(below / "LAST.JPG")
    module = folder()
    with caplog.at_level("INFO"):
        assert len(module.load_part("train")[0]) == 200
    assert module.num_classes == 10
    assert "skipping 1 .db" in caplog.text


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "webp", "gif", "tif"])
def test_every_format_is_read(data: Path, ending: str) -> None:
    make_image_folder(data, train=20, test=10, ending=ending)
    images, labels = folder().load_part("train")
    with Image.open(data / "train" / CIFAR_CLASSES[int(labels[3])] / f"0001.{ending}") as file:
        expected = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(images[3], expected)


def read(path: Path, image: Image.Image, channels: int = 3, size: tuple[int, int] | None = None, **options: Any) -> Any:
    """Save the image and read it."""
    image.save(path, **options)
    return read_image(str(path), channels, size)


def test_every_pixel_format_is_converted_to_8_bits(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 12 * 16).astype(np.uint8).reshape(12, 16)
    gray = Image.fromarray(ramp)
    color = Image.fromarray(np.stack([ramp, ramp[::-1], 255 - ramp], 2))
    expected = np.array(color).transpose(2, 0, 1)

    assert (read(tmp_path / "16.png", Image.fromarray(ramp.astype(np.uint16) * 257), 1) == ramp).all()
    assert (read(tmp_path / "16.tif", Image.fromarray(ramp.astype(np.int32) * 257), 1) == ramp).all()
    assert (read(tmp_path / "gray.png", gray) == np.stack([ramp] * 3)).all()
    assert read(tmp_path / "gray.jpg", gray).shape == (3, 12, 16)
    assert (read(tmp_path / "color.png", color) == expected).all()
    palette = color.convert("P", palette=Image.Palette.ADAPTIVE)
    assert (read(tmp_path / "p.png", palette) == np.array(palette.convert("RGB")).transpose(2, 0, 1)).all()
    assert read(tmp_path / "p2.png", palette, transparency=b"\x00\x80").shape == (3, 12, 16)
    cmyk = read(tmp_path / "cmyk.jpg", color.convert("CMYK"), quality=100)
    assert np.abs(cmyk.astype(int) - expected).mean() < 5
    clear = color.convert("RGBA")
    clear.putalpha(0)
    assert read(tmp_path / "clear.png", clear).min() == 255  # on white
    with pytest.raises(ValueError, match="floating-point pixels"):
        read(tmp_path / "f.tif", Image.fromarray(ramp.astype(np.float32)))


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_photo_is_rotated_upright(tmp_path: Path, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10] = 250
    image = read(tmp_path / f"a.{ending}", Image.fromarray(pixels), exif=exif)
    assert image.shape == (3, 20, 10)
    assert image[:, :8].min() > 200
    assert image[:, 12:].max() < 50


def test_a_png_file_named_jpg_is_read(tmp_path: Path) -> None:
    assert read(tmp_path / "a.jpg", Image.new("RGB", (5, 4), "red"), format="PNG")[:, 0, 0].tolist() == [255, 0, 0]


def test_a_format_that_starts_a_program_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(UnidentifiedImageError):
        read(tmp_path / "a.jpg", Image.new("RGB", (5, 4), "red"), format="EPS")


def test_other_sizes_are_center_cropped_and_resized(tmp_path: Path) -> None:
    pixels = np.zeros((40, 100, 3), np.uint8)
    pixels[:, 30:70] = 200
    wide = Image.fromarray(pixels)
    assert (read(tmp_path / "a.png", wide, size=(20, 20))[:, :, 1:-1] == 200).all()
    assert (read(tmp_path / "a.png", wide.rotate(90, expand=True), size=(20, 20))[:, 1:-1] == 200).all()
    assert (read(tmp_path / "a.png", wide, size=(40, 100)) == pixels.transpose(2, 0, 1)).all()
    half = read(tmp_path / "a.png", wide, size=(20, 50))
    assert half.shape == (3, 20, 50)
    assert half[0, 10, [13, 16, 33, 36]].tolist() == [0, 200, 200, 0]
    assert read(tmp_path / "a.png", wide.crop((0, 0, 1, 40)), size=(7, 9)).shape == (3, 7, 9)


def test_a_large_jpeg_decoded_at_a_smaller_size_looks_the_same(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 800)[None, :, None] * np.ones((600, 1, 3))
    small = read(tmp_path / "a.jpg", Image.fromarray(ramp.astype(np.uint8)), size=(30, 40))
    assert np.abs(small[0, 15].astype(float) - np.linspace(3, 252, 40)).max() < 4


def test_images_of_different_sizes_need_image_size(data: Path) -> None:
    make_image_folder(data)
    Image.new("RGB", (40, 48)).save(data / "train" / "dog" / "0003.jpg")
    with pytest.raises(MisconfigurationException) as caught:
        folder().setup("fit")
    for word in (
        "image_size",
        "airplane/0000.jpg has 32 x 32",
        "dog/0003.jpg has 48 x 40",
        "1 of 200",
        "image_size 32",
    ):
        assert word in str(caught.value)
    module = folder(image_size=16)
    module.setup("fit")
    assert module.load_part("train")[0].shape == (200, 3, 16, 16)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 0}, "got 0. Set --data.image_size"),
        ({"image_size": [1, 2, 3]}, "image_size"),
        ({"channels": 2}, "channels must be 3 .color. or 1 .gray., got 2"),
        ({"mean": [0.5] * 3}, "must be set together"),
        ({"mean": [0.5], "std": [0.5]}, "for each of the 3 channels"),
        ({"mean": [0.5] * 3, "std": [0.0] * 3}, "std must be above 0"),
    ],
)
def test_invalid_arguments_raise_an_error(options: dict[str, Any], words: str) -> None:
    with pytest.raises(MisconfigurationException, match=words):
        ImageFolderDataModule(**options)


REAL = os.environ.get("LITLAB_IMAGE_FOLDER")


@pytest.mark.data
@pytest.mark.skipif(not REAL, reason="LITLAB_IMAGE_FOLDER is not set")
def test_all_unpacked_jpegs_of_cifar10_are_found() -> None:
    module = folder(data_dir=REAL)
    module.setup("fit")
    module.setup("test")
    assert module.split_sizes() == {"train": 40_000, "val": 10_000, "test": 10_000}
    assert module.mean == pytest.approx((0.491, 0.482, 0.447), abs=0.002)

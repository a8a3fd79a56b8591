"""Corrupted or wrongly structured image folders: one sentence with the path and the fix."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import ImageFolderDataModule
from tests.data.makers import make_image_folder


def sentence(action: Callable[[], Any]) -> str:
    with pytest.raises(MisconfigurationException) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fit(**options: Any) -> None:
    module = ImageFolderDataModule(**options)
    module.prepare_data()
    module.setup("fit")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:512])


def break_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.jpg")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (truncate, "truncated after 512 bytes"),
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: path.write_text("<html>not found</html>"), "22 bytes of unknown image format"),
        (break_link, "No such file or directory"),
    ],
)
@pytest.mark.parametrize("name", ["airplane/0000.jpg", "cat/0007.jpg"])
def test_one_unreadable_file_is_named_with_the_reason(
    data: Path, tmp_path: Path, how: Callable[[Path], Any], reason: str, name: str
) -> None:
    make_image_folder(data)
    how(data / "train" / name)
    assert ImageFolderDataModule().input_shape == (3, 32, 32)
    assert sentence(fit) == (
        f"data: {data}/train/{name} is not a readable image ({reason}). Remove or replace it; 1 of 200 files."
    )
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    (data / "train" / name).unlink()
    fit()


def test_of_several_unreadable_files_the_first_and_three_more_are_named(data: Path) -> None:
    make_image_folder(data)
    for number in range(6):
        truncate(data / "train" / "dog" / f"000{number}.jpg")
    text = sentence(fit)
    assert "dog/0000.jpg is not a readable image" in text
    assert "6 of 200 files (also train/dog/0001.jpg, train/dog/0002.jpg, train/dog/0003.jpg, ...)." in text


def test_an_unreadable_test_image_stops_only_a_test(data: Path) -> None:
    make_image_folder(data)
    truncate(data / "test" / "dog" / "0001.jpg")
    fit()
    assert "test/dog/0001.jpg is not a readable image" in sentence(lambda: ImageFolderDataModule().setup("test"))


def test_a_folder_without_a_readable_image_is_reported(data: Path) -> None:
    make_image_folder(data, train=20)
    for path in data.rglob("*.jpg"):
        path.write_bytes(b"no image")
    text = sentence(lambda: ImageFolderDataModule().input_shape)
    assert "none of the 20 images below" in text


def test_a_missing_or_wrongly_structured_folder_is_reported(data: Path) -> None:
    text = sentence(fit)
    for word in (f"{data}/train", "No such file", "train/cat/0001.jpg", "--data.data_dir", "LITLAB_DATA_DIR"):
        assert word in text
    (data / "train").mkdir(parents=True)
    (data / "train" / "a.jpg").write_bytes(b"")
    assert "train contains no class folders" in sentence(fit)
    (data / "train" / "cat").mkdir()
    assert "train contains only one class folder, cat" in sentence(fit)
    (data / "train" / "dog").mkdir()
    assert "train/cat contains no images" in sentence(fit)


def test_a_missing_split_or_one_with_other_classes_is_reported(data: Path) -> None:
    make_image_folder(data, test=0)
    fit()
    assert "test cannot be read (No such file" in sentence(lambda: ImageFolderDataModule().setup("test"))
    (data / "test" / "unicorn").mkdir(parents=True)
    text = sentence(lambda: ImageFolderDataModule().setup("test"))
    assert "test/unicorn is not a class of the training images. Their classes are airplane, automobile" in text
    (data / "test" / "unicorn").rename(data / "test" / "cat")
    assert "contain no images" in sentence(lambda: ImageFolderDataModule().setup("test"))
    (data / "validation").mkdir()
    assert "validation would be ignored" in sentence(fit)


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_named(data: Path) -> None:
    make_image_folder(data)
    (data / "train" / "cat" / "0001.jpg").chmod(0)
    assert "cat/0001.jpg is not a readable image (Permission denied)" in sentence(fit)

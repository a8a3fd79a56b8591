"""Folders of images: damaged files, missing folders, another layout."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.experiments.bad_inputs.bad import Arrange, Bad, cut, gone, write

IMAGES = "--model=LitLogisticRegression --data=ImageFolderDataModule --data.data_dir=pictures"
ROOT = Path("pictures")
CAT = ROOT / "train/cat/0001.jpg"


def images(offender: str | tuple[str, ...], remedy: str | tuple[str, ...], offence: Arrange, verb: str = "fit") -> Bad:
    """A folder of images spoilt."""
    return Bad(f"{verb} {IMAGES}", offender, remedy, given="pictures", offence=offence)


def option(word: str, offender: str | tuple[str, ...], remedy: str) -> Bad:
    """An option that a folder of images cannot have."""
    return Bad(f"fit {IMAGES} {word}", offender, remedy, f"fit {IMAGES}", given="pictures")


def one_class() -> None:
    """Only the cats are left."""
    for folder in (*(ROOT / "train").iterdir(), *(ROOT / "test").iterdir()):
        if folder.name != "cat":
            shutil.rmtree(folder)


def no_classes() -> None:
    """All images in one folder."""
    for folder in list((ROOT / "train").iterdir()):
        for file in folder.iterdir():
            file.rename(ROOT / "train" / f"{folder.name}-{file.name}")
        folder.rmdir()


def larger() -> None:
    """One image is of another size than the others."""
    from PIL import Image

    Image.new("RGB", (20, 30)).save(CAT)


def nowhere() -> None:
    """A link whose image is gone."""
    CAT.unlink()
    CAT.symlink_to("nowhere.jpg")


def emptied() -> None:
    """A class without images."""
    for file in (ROOT / "train/dog").iterdir():
        file.unlink()


PICTURES: dict[str, Bad] = {
    "no folder of images": images(
        ("pictures/train", "No such file"), ("train/cat/0001.jpg", "LITLAB_DATA_DIR"), gone(ROOT)
    ),
    "images without a folder train": images(
        "pictures/train", "--data.data_dir", lambda: (ROOT / "train").rename(ROOT / "training")
    ),
    "images without classes": images("pictures/train contains no class folders", "cat/0001.jpg", no_classes),
    "images of one class": images(("pictures/train", "one class folder"), "second", one_class),
    "class without images": images("pictures/train/dog contains no images", "Fill or remove it", emptied),
    "image cut short": images((str(CAT), "truncated after"), "Remove or replace it", cut(CAT, 400)),
    "image of no bytes": images((str(CAT), "an empty file"), "Remove or replace it", cut(CAT, 0)),
    "image that is text": images(
        (str(CAT), "of unknown image format"), "Remove or replace it", write(str(CAT), "<html>no</html>")
    ),
    "image that is a link to nowhere": images((str(CAT), "No such file"), "Remove or replace it", nowhere),
    "image of another size": images((str(CAT), "20"), "image_size", larger),
    "test images missing": images("pictures/test", "--data.data_dir", gone(ROOT / "test"), "data"),
    "test images of a class that is not trained": images(
        "pictures/test/unicorn is not a class",
        "Rename or remove it",
        lambda: (ROOT / "test/dog").rename(ROOT / "test/unicorn"),
        "data",
    ),
    "test image cut short": images(
        ("pictures/test/dog/0001.jpg", "truncated"),
        "Remove or replace it",
        cut(ROOT / "test/dog/0001.jpg", 400),
        "data",
    ),
    "validation folder of another name": images(
        "pictures/validation would be ignored",
        "Rename it",
        lambda: shutil.copytree(ROOT / "test", ROOT / "validation"),
    ),
    "images in a file": Bad(
        f"fit {IMAGES.replace('=pictures', '=story.txt')}",
        "story.txt/train",
        "--data.data_dir",
        f"fit {IMAGES}",
        given=("pictures", "story"),
    ),
    "size of no pixels": option(
        "--data.image_size=0", ("image_size must be a positive integer", "got 0"), "--data.image_size"
    ),
    "size of three sides": option("--data.image_size=[1,2,3]", ("image_size", "got [1, 2, 3]"), "[height, width]"),
    "two channels": option("--data.channels=2", ("data.channels must be", "got '2'"), "1 or 3"),
    "mean without deviation": option("--data.mean=[0.5,0.5,0.5]", "mean and std must be set together", "Set both"),
    "deviation of nothing": option(
        "--data.mean=[0.5,0.5,0.5] --data.std=[0,0,0]", ("mean and std", "[0.0, 0.0, 0.0]"), "above 0"
    ),
}

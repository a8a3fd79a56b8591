"""List of the image files in class folders, without opening them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.files.image_files import EXTENSIONS


@dataclass(frozen=True)
class Listing:
    """The image files below `root`, in the order of their sample numbers."""

    root: Path
    names: list[str]  # relative to the root: train/cat/0001.jpg
    labels: Tensor  # int64 (N,)
    validation: int  # number of files below val/, which are last
    key: str  # hash of names, sizes, modification times and labels
    others: Counter[str] = field(default_factory=Counter)  # number of other files by extension

    def __len__(self) -> int:
        return len(self.names)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the class folders except hidden ones; raise an error if there are none."""
    names = sorted(entry.name for entry in _entries(folder) if entry.is_dir())
    if not names:
        raise MisconfigurationException(
            f"data: {folder} contains no class folders. Put the images of each class into its own folder, such as "
            f"{folder / 'cat' / '0001.jpg'}."
        )
    return tuple(names)


def list_images(root: Path, splits: Iterable[str], class_names: tuple[str, ...]) -> Listing:
    """Return all images of the given splits (`train`, `val`, `test`), sorted by split, class and path in the class."""
    names: list[str] = []
    labels: list[int] = []
    others: Counter[str] = Counter()
    digest = hashlib.sha256("\0".join(class_names).encode("utf-8", "surrogateescape"))
    validation = 0
    for split in splits:
        before = len(names)
        for name in sorted({*class_folders(root / split)} - {*class_names}):
            raise MisconfigurationException(
                f"data: {root / split / name} is not a class of the training images. Their classes are "
                f"{', '.join(class_names[:10])}{' ...' if len(class_names) > 10 else ''}. Rename or remove it."
            )
        for label, name in enumerate(class_names):
            found = sorted(_images(root / split / name, f"{split}/{name}", others))
            if not found and split == "train":
                raise MisconfigurationException(
                    f"data: {root / split / name} contains no images ({', '.join(EXTENSIONS)}). Fill or remove it."
                )
            names += [path for path, _, _ in found]
            labels += [label] * len(found)
            for path, size, time in found:
                digest.update(f"{path}\0{size}\0{time}\n".encode("utf-8", "surrogateescape"))
        if len(names) == before:
            raise MisconfigurationException(f"data: the class folders of {root / split} contain no images. Add images.")
        validation += len(names) - before if split == "val" else 0
    return Listing(root, names, torch.tensor(labels), validation, digest.hexdigest(), others)


def _images(folder: Path | str, name: str, others: Counter[str]) -> Iterator[tuple[str, int, int]]:
    """Yield (relative path, size in bytes, modification time in ns) of every image below a class folder."""
    if not os.path.isdir(folder):
        return  # the class has no validation or test images
    for entry in _entries(folder):
        path = f"{name}/{entry.name}"
        if entry.is_dir():
            if not entry.is_symlink():  # a link to a parent folder would never end
                yield from _images(entry.path, path, others)
        elif entry.name.lower().endswith(EXTENSIONS):
            try:
                stat = entry.stat()
            except OSError:  # a broken link; decoding reports it with all unreadable files
                yield path, 0, 0
            else:
                yield path, stat.st_size, stat.st_mtime_ns
        else:
            others[os.path.splitext(entry.name)[1].lower() or entry.name] += 1


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """Return the entries of a folder except hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise MisconfigurationException(
            f"data: the folder {folder} cannot be read ({error.strerror}). It must contain a folder of images for each "
            "class, such as train/cat/0001.jpg. Set --data.data_dir or LITLAB_DATA_DIR to the folder of train/."
        ) from error

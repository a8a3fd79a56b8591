"""Listing of the image files in class folders, without opening them."""

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
    validation: int  # number of them, at the end, that are below val/
    key: str  # hash of names, sizes, times and labels
    others: Counter[str] = field(default_factory=Counter)  # number of other files by extension

    def __len__(self) -> int:
        return len(self.names)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the class folders, without hidden ones; raise an error if there are none."""
    names = sorted(entry.name for entry in _entries(folder) if entry.is_dir())
    if not names:
        raise MisconfigurationException(
            f"data: {folder} contains no class folders. Put the images of each class into its own folder, such as "
            f"{folder / 'cat' / '0001.jpg'}."
        )
    return tuple(names)


def list_images(root: Path, parts: Iterable[str], class_names: tuple[str, ...]) -> Listing:
    """List all images of these parts (`train`, `val`, `test`), sorted by part, class and path within the class."""
    names: list[str] = []
    labels: list[int] = []
    others: Counter[str] = Counter()
    digest = hashlib.sha256("\0".join(class_names).encode("utf-8", "surrogateescape"))
    validation = 0
    for part in parts:
        before = len(names)
        for name in sorted({*class_folders(root / part)} - {*class_names}):
            raise MisconfigurationException(
                f"data: {root / part / name} is not a class of the training images. Their classes are "
                f"{', '.join(class_names[:10])}{' ...' if len(class_names) > 10 else ''}. Rename or remove it."
            )
        for label, name in enumerate(class_names):
            found = sorted(_images(root / part / name, f"{part}/{name}", others))
            if not found and part == "train":
                raise MisconfigurationException(
                    f"data: {root / part / name} contains no images ({', '.join(EXTENSIONS)}). Fill or remove it."
                )
            names += [path for path, _, _ in found]
            labels += [label] * len(found)
            for path, size, time in found:
                digest.update(f"{path}\0{size}\0{time}\n".encode("utf-8", "surrogateescape"))
        if len(names) == before:
            raise MisconfigurationException(f"data: the class folders of {root / part} contain no images. Fill them.")
        validation += len(names) - before if part == "val" else 0
    return Listing(root, names, torch.tensor(labels), validation, digest.hexdigest(), others)


def _images(folder: Path | str, name: str, others: Counter[str]) -> Iterator[tuple[str, int, int]]:
    """Yield (relative path, bytes, modification time in ns) of every image below a class folder, unordered."""
    if not os.path.isdir(folder):
        return  # a class without validation or test images
    for entry in _entries(folder):
        path = f"{name}/{entry.name}"
        if entry.is_dir():
            if not entry.is_symlink():  # a link to a parent folder would never end
                yield from _images(entry.path, path, others)
        elif entry.name.lower().endswith(EXTENSIONS):
            try:
                stat = entry.stat()
            except OSError:  # a broken link: reported with the files that cannot be decoded
                yield path, 0, 0
            else:
                yield path, stat.st_size, stat.st_mtime_ns
        else:
            others[os.path.splitext(entry.name)[1].lower() or entry.name] += 1


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise MisconfigurationException(
            f"data: the folder {folder} cannot be read ({error.strerror}). It must contain a folder of images for each "
            "class, such as train/cat/0001.jpg. Set --data.data_dir or LITLAB_DATA_DIR to the folder of train/."
        ) from error

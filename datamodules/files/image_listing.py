"""Which image files a folder holds, class by class; nothing is opened."""

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
    """The image files below `root`, in the order in which they are numbered."""

    root: Path
    names: list[str]  # relative to the root: train/cat/0001.jpg
    labels: Tensor  # int64 (N,)
    validation: int  # how many of them, at the end, lie below val/
    key: str  # hash of names, sizes, times and labels
    others: Counter[str] = field(default_factory=Counter)  # what else lies there, by ending

    def __len__(self) -> int:
        return len(self.names)


def class_folders(folder: Path) -> tuple[str, ...]:
    """The names of the class folders, sorted; hidden ones are none. Refuses a folder that has none."""
    names = sorted(entry.name for entry in _entries(folder) if entry.is_dir())
    if not names:
        raise MisconfigurationException(
            f"data: {folder} holds no class folders. Put the images of each class into a folder of its own, as in "
            f"{folder / 'cat' / '0001.jpg'}."
        )
    return tuple(names)


def list_images(root: Path, parts: Iterable[str], class_names: tuple[str, ...]) -> Listing:
    """All images of these parts (`train`, `val`, `test`), sorted by part, class and path within the class."""
    names: list[str] = []
    labels: list[int] = []
    others: Counter[str] = Counter()
    digest = hashlib.sha256("\0".join(class_names).encode("utf-8", "surrogateescape"))
    validation = 0
    for part in parts:
        before = len(names)
        for name in sorted({*class_folders(root / part)} - {*class_names}):
            raise MisconfigurationException(
                f"data: {root / part / name} is no class of the training images, which are in "
                f"{', '.join(class_names[:10])}{' ...' if len(class_names) > 10 else ''}. Rename or remove it."
            )
        for label, name in enumerate(class_names):
            found = sorted(_images(root / part / name, f"{part}/{name}", others))
            if not found and part == "train":
                raise MisconfigurationException(
                    f"data: {root / part / name} holds no images ({', '.join(EXTENSIONS)}). Fill or remove it."
                )
            names += [path for path, _, _ in found]
            labels += [label] * len(found)
            for path, size, time in found:
                digest.update(f"{path}\0{size}\0{time}\n".encode("utf-8", "surrogateescape"))
        if len(names) == before:
            raise MisconfigurationException(f"data: the class folders of {root / part} hold no images. Fill them.")
        validation += len(names) - before if part == "val" else 0
    return Listing(root, names, torch.tensor(labels), validation, digest.hexdigest(), others)


def _images(folder: Path | str, name: str, others: Counter[str]) -> Iterator[tuple[str, int, int]]:
    """(relative path, bytes, time of change in ns) of every image below a class folder; no order."""
    if not os.path.isdir(folder):
        return  # a class without validation or test images
    for entry in _entries(folder):
        path = f"{name}/{entry.name}"
        if entry.is_dir():
            if not entry.is_symlink():  # one that leads upwards would never end
                yield from _images(entry.path, path, others)
        elif entry.name.lower().endswith(EXTENSIONS):
            try:
                facts = entry.stat()
            except OSError:  # a link to nowhere: named with all that cannot be decoded
                yield path, 0, 0
            else:
                yield path, facts.st_size, facts.st_mtime_ns
        else:
            others[os.path.splitext(entry.name)[1].lower() or entry.name] += 1


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What a folder holds, hidden entries left out."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise MisconfigurationException(
            f"data: the folder {folder} cannot be read ({error.strerror}). Expected are the images of each class in a "
            "folder of its own, as in train/cat/0001.jpg; name the folder that holds train/ by --data.data_dir or "
            "LITLAB_DATA_DIR."
        ) from error

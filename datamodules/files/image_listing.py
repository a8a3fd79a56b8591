"""List of the image files in class folders, without opening them."""

from __future__ import annotations

import hashlib
import os
import stat
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
    key: str  # hash of names, sizes, times, file numbers and labels
    skipped: Counter[str] = field(default_factory=Counter)  # number of skipped files and folders by extension or reason

    def __len__(self) -> int:
        return len(self.names)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the class folders except hidden ones; raise an error if there are none."""
    names = sorted(entry.name for entry in _entries(folder) if _is_folder(entry))
    if not names:
        raise MisconfigurationException(
            f"data: {folder} contains no class folders. Put the images of each class into its own folder, such as "
            f"{folder / 'cat' / '0001.jpg'}."
        )
    return tuple(names)


def list_images(root: Path, splits: Iterable[str], class_names: tuple[str, ...]) -> Listing:
    """Return all images of the given splits (`train`, `val`, `test`), sorted by split, class and path in the class.

    Links to folders are followed, unless they lead to a folder of the same class that was already read, or to a folder
    that contains the class.
    """
    names: list[str] = []
    labels: list[int] = []
    skipped: Counter[str] = Counter()
    digest = hashlib.sha256("\0".join(class_names).encode("utf-8", "surrogateescape"))
    validation = 0
    for split in splits:
        before = len(names)
        for entry in _entries(root / split, skipped):
            if not _is_folder(entry):
                skipped[_extension(entry)] += 1
        for name in sorted({*class_folders(root / split)} - {*class_names}):
            raise MisconfigurationException(
                f"data: {root / split / name} is not a class of the training images. Their classes are "
                f"{', '.join(class_names[:10])}{' ...' if len(class_names) > 10 else ''}. Rename or remove it."
            )
        for label, name in enumerate(class_names):
            folder = root / split / name
            read = {_identity(parent) for parent in folder.resolve().parents}
            if folder.is_dir() and _identity(folder) in {_identity(parent) for parent in folder.absolute().parents}:
                raise MisconfigurationException(
                    f"data: {folder} links to {folder.resolve()}, which contains it. Remove the link."
                )
            found = sorted(_images(folder, f"{split}/{name}", skipped, read))
            if not found and split == "train":
                raise MisconfigurationException(
                    f"data: {root / split / name} contains no images ({', '.join(EXTENSIONS)}). Fill or remove it."
                )
            names += [path for path, *_ in found]
            labels += [label] * len(found)
            for path, *state in found:
                digest.update(f"{path}\0{state}\n".encode("utf-8", "surrogateescape"))
        if len(names) == before:
            raise MisconfigurationException(f"data: the class folders of {root / split} contain no images. Add images.")
        validation += len(names) - before if split == "val" else 0
    return Listing(root, names, torch.tensor(labels), validation, digest.hexdigest(), skipped)


def _images(
    folder: Path | str, name: str, skipped: Counter[str], read: set[tuple[int, int]]
) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield every image below a class folder: relative path, then what differs if another file takes its place.

    `read` contains the folders that are not read again. The time of the last status change also differs if a program
    sets size and modification time of the new file to those of the old one.
    """
    if not os.path.isdir(folder):
        return  # the class has no validation or test images
    read.add(_identity(folder))
    for entry in sorted(_entries(folder, skipped), key=lambda entry: (entry.is_symlink(), entry.name)):
        path = f"{name}/{entry.name}"
        if _is_folder(entry):
            if _identity(entry.path) in read:
                skipped["linked folders that were already read"] += 1
            else:
                yield from _images(entry.path, path, skipped, read)
        elif entry.name.lower().endswith(EXTENSIONS):
            try:
                info = entry.stat()
            except OSError:  # a broken link; decoding reports it with all unreadable files
                yield path, 0, 0, 0, 0
                continue
            if stat.S_ISREG(info.st_mode):
                yield path, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino
            else:  # a pipe, from which a program would read forever
                skipped["not a file"] += 1
        else:
            skipped[_extension(entry)] += 1


def _identity(folder: Path | str) -> tuple[int, int]:
    """Return device and file number, which are equal for all paths to a folder."""
    info = os.stat(folder)
    return info.st_dev, info.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _extension(entry: os.DirEntry[str]) -> str:
    if not os.path.exists(entry.path):
        return "broken link"
    return os.path.splitext(entry.name)[1].lower() or entry.name


def _entries(folder: Path | str, skipped: Counter[str] | None = None) -> list[os.DirEntry[str]]:
    """Return the entries of a folder except hidden ones, which are counted in `skipped`."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        raise MisconfigurationException(
            f"data: the folder {folder} cannot be read ({error.strerror}). It must contain a folder of images for each "
            "class, such as train/cat/0001.jpg. Set --data.data_dir or LITLAB_DATA_DIR to the folder of train/."
        ) from error
    visible = [entry for entry in found if not entry.name.startswith(".")]
    if skipped is not None and len(visible) < len(found):
        skipped["hidden"] += len(found) - len(visible)
    return visible

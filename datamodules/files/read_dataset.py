"""Read a torchvision dataset; where that fails, say which file is damaged and how."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torchvision.datasets import VisionDataset

from datamodules.files.idx import idx_problem
from datamodules.files.locate import Layout, layout_of


def read_dataset(dataset_class: type[VisionDataset], root: str, part: str) -> VisionDataset:
    """The training or test part by torchvision's reader, which opens no file of the other part."""
    layout = layout_of(dataset_class)
    files = [Path(root, layout.folder, name) for name in layout.files if layout.part_of(name) in (part, "both")]
    for path in files:
        if layout.kind == "idx":
            check_idx(path)
    reader = dataset_class
    if layout.kind == "batches":
        # Its reader takes the checksums of the files of both parts: show it only the ones it is to read.
        other: dict[str, Any] = {"test_list" if part == "train" else "train_list": []}
        reader = type(dataset_class.__name__, (dataset_class,), other)
    try:
        with warnings.catch_warnings():
            # CIFAR's files were pickled by an old numpy; the present one reads them, and warns.
            warnings.filterwarnings("ignore", message=".*align.*")
            return reader(root, train=part == "train")
    except Exception as error:  # torchvision's readers raise anything from EOFError to UnpicklingError
        for path in files:
            _check_md5(path, layout)
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise MisconfigurationException(
            f"data: the {part} files of {dataset_class.__name__} in {root} cannot be read ({reason}). Replace them."
        ) from error


def check_idx(path: Path) -> None:
    """Refuse an idx file whose magic number or size is wrong; reads its first 16 bytes."""
    try:
        problem = idx_problem(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if problem is not None:
        raise _damaged(path, problem)


def _check_md5(path: Path, layout: Layout) -> None:
    expected = layout.checksums.get(path.name)
    if expected is None:
        return
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error
    if found != expected:
        size = path.stat().st_size
        raise _damaged(path, f"({size} bytes) has the checksum {found}, expected {expected}")


def _unreadable(path: Path, error: OSError) -> MisconfigurationException:
    return MisconfigurationException(f"data: {path} cannot be opened ({error.strerror}). Mend or replace it.")


def _damaged(path: Path, what: str) -> MisconfigurationException:
    return MisconfigurationException(
        f"data: {path} {what}. Delete it and run again to download it, or replace it with a whole copy."
    )

"""Reading a torchvision dataset, with errors that name the corrupted file."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torchvision.datasets import VisionDataset

from datamodules.files.find_dataset import dataset_files
from datamodules.files.idx import idx_problem


def read_dataset(dataset_class: type[VisionDataset], root: str, part: str) -> VisionDataset:
    """Read the train or test split with torchvision, which opens no file of the other split."""
    dataset = dataset_files(dataset_class)
    files = [Path(root, dataset.folder, name) for name in dataset.files if dataset.parts.get(name, part) == part]
    for path in files if dataset.kind == "idx" else []:
        _check(path, idx_problem)
    reader = dataset_class
    if dataset.kind == "batches":
        # The reader checks the checksums of both splits: list only the files of this one.
        other: dict[str, Any] = {"test_list" if part == "train" else "train_list": []}
        reader = type(dataset_class.__name__, (dataset_class,), other)
    try:
        with warnings.catch_warnings():
            # CIFAR's files were pickled by an old NumPy; current versions read them with a warning.
            warnings.filterwarnings("ignore", message=".*align.*")
            return reader(root, train=part == "train")
    except Exception as error:  # torchvision may raise anything from EOFError to UnpicklingError
        for path in files:
            _check(path, lambda file: _md5_problem(file, dataset.checksums.get(file.name)))
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise MisconfigurationException(
            f"data: the {part} files of {dataset_class.__name__} in {root} cannot be read ({reason}). Replace them."
        ) from error


def _check(path: Path, find_problem: Callable[[Path], str | None]) -> None:
    """Raise an error if the file has a problem or cannot be opened."""
    try:
        problem = find_problem(path)
    except OSError as error:
        raise MisconfigurationException(
            f"data: {path} cannot be opened ({error.strerror}). Fix or replace it."
        ) from error
    if problem is not None:
        raise MisconfigurationException(
            f"data: {path} {problem}. Delete it and run again to download it, or replace it with a complete copy."
        )


def _md5_problem(path: Path, expected: str | None) -> str | None:
    if expected is None:
        return None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    size = path.stat().st_size
    return None if found == expected else f"({size} bytes) has the checksum {found}, expected {expected}"

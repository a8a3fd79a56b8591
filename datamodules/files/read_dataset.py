"""Reader of torchvision datasets, with errors that name the corrupted file."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torchvision.datasets import VisionDataset
from torchvision.datasets.utils import calculate_md5

from datamodules.files.find_dataset import dataset_files, idx_problem


def read_dataset(dataset_class: type[VisionDataset], root: str, split: str) -> VisionDataset:
    """Return the train or test split, read by torchvision without opening files of the other split."""
    dataset = dataset_files(dataset_class)
    files = [Path(root, dataset.folder, name) for name in dataset.files if dataset.splits.get(name, split) == split]
    for path in files if dataset.kind == "idx" else []:
        _check(path, idx_problem)
    reader = dataset_class
    if dataset.kind == "batches":
        # The reader checks the checksums of all listed files, so list only the files of this split.
        other: dict[str, Any] = {"test_list" if split == "train" else "train_list": []}
        reader = type(dataset_class.__name__, (dataset_class,), other)
    try:
        with warnings.catch_warnings():
            # CIFAR's files were pickled by an old version of NumPy; current versions warn about them.
            warnings.filterwarnings("ignore", message=".*align.*")
            return reader(root, train=split == "train")
    except Exception as error:  # torchvision may raise any exception, from EOFError to UnpicklingError
        for path in files:
            _check(path, lambda file: _md5_problem(file, dataset.checksums.get(file.name)))
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise MisconfigurationException(
            f"data: the {split} files of {dataset_class.__name__} in {root} cannot be read ({reason}). Replace them."
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
    if expected is None or (found := calculate_md5(path)) == expected:
        return None
    return f"({path.stat().st_size} bytes) has the checksum {found}, expected {expected}"

"""Search, unpacking and download of the files of a torchvision dataset."""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import os
import shutil
import socket
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torchvision.datasets import VisionDataset

from datamodules.files.paths import cache_root, data_root, exclusive_lock

# The Debian package dataset-fashion-mnist contains the four files, gzipped.
PACKAGE_DIRS = {"FashionMNIST": (Path("/usr/share/datasets/fashion-mnist"),)}
HINTS = {
    "MNIST": "download the four files from https://ossci-datasets.s3.amazonaws.com/mnist/",
    "FashionMNIST": "`apt install dataset-fashion-mnist`, or download them from "
    "https://github.com/zalandoresearch/fashion-mnist",
    "CIFAR10": "unpack cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html",
}
DOWNLOAD_TIMEOUT_S = 30.0  # without receiving a byte
_IDX_IMAGES, _IDX_LABELS = 2051, 2049  # magic numbers: unsigned bytes in three dimensions and in one


@dataclass(frozen=True)
class DatasetFiles:
    """The files of a dataset in `folder` below its root; `kind` is `idx` (MNIST), `batches` (CIFAR) or `other`."""

    name: str
    kind: str
    folder: str
    files: tuple[str, ...]
    checksums: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)  # file: train or test, for files of only one split

    def missing(self, root: Path) -> list[str]:
        """Return the files that are missing below this root."""
        return [name for name in self.files if not os.path.isfile(root / self.folder / name)]


def dataset_files(dataset_class: type[VisionDataset]) -> DatasetFiles:
    """Return the files of a dataset, read from public attributes of torchvision's class."""
    public: Any = dataset_class
    name = dataset_class.__name__
    if hasattr(public, "resources"):
        files = tuple(Path(url).stem for url, _ in public.resources)
        splits = {file: "test" if file.startswith("t10k") else "train" for file in files}
        return DatasetFiles(name, "idx", f"{name}/raw", files, splits=splits)
    if hasattr(public, "base_folder") and hasattr(public, "train_list"):
        splits = {file: "train" for file, _ in public.train_list} | {file: "test" for file, _ in public.test_list}
        sums: dict[str, str] = dict([*public.train_list, *public.test_list])
        sums[public.meta["filename"]] = public.meta["md5"]
        return DatasetFiles(name, "batches", public.base_folder, tuple(sums), sums, splits)
    return DatasetFiles(name, "other", "", ())


def find_dataset(
    dataset_class: type[VisionDataset],
    data_dir: str | None = None,
    download: bool = True,
    package_dirs: Sequence[Path] | None = None,
) -> Path:
    """Return the root folder that contains all files of the dataset; raise an error with all reasons if it fails.

    Search the data folder, then the cache. If files are missing, unpack gzipped copies from the data folder or
    `package_dirs`, or download the files.
    """
    files = dataset_files(dataset_class)
    root, cache = data_root(data_dir), cache_root()
    packages = PACKAGE_DIRS.get(files.name, ()) if package_dirs is None else tuple(package_dirs)
    for candidate in (root, cache):
        if not files.missing(candidate):
            return candidate
    problems: list[str] = []
    with exclusive_lock(root):
        for source in (root / files.folder, *packages):
            for target in (root, cache):
                if not files.missing(target) or _unpack(source, target, files, problems):
                    return target
        reason = _download(dataset_class, root, files) if download else "download is false"
    if reason is None:
        return root
    raise MisconfigurationException(
        f"data: {files.name} is not complete: {', '.join(files.missing(root))} not found in "
        f"{', '.join(map(str, (root / files.folder, cache / files.folder, *packages)))}; "
        + "".join(f"{problem}; " for problem in problems)
        + f"no download: {reason}. "
        f"Set LITLAB_DATA_DIR or --data.data_dir to the folder that contains {files.folder}/"
        + (f", or {HINTS[files.name]}." if files.name in HINTS else ".")
    )


def _unpack(source: Path, target: Path, files: DatasetFiles, problems: list[str]) -> bool:
    """Unpack `source/*.gz` into the target root atomically; return True on success.

    Add the reason to `problems` if the files exist but cannot be written.
    """
    if files.kind != "idx":
        return False
    folder = target / files.folder
    packed = {name: source / f"{name}.gz" for name in files.missing(target)}
    if not all(os.path.isfile(path) for path in packed.values()):
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
            for name, path in packed.items():
                unpacked = Path(temporary, name)
                with gzip.open(path) as compressed, unpacked.open("wb") as out:
                    shutil.copyfileobj(compressed, out)
                if problem := idx_problem(unpacked):
                    raise gzip.BadGzipFile(f"the unpacked file {problem}")
                unpacked.replace(folder / name)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise MisconfigurationException(f"data: {path} is corrupted ({error}). Replace it.") from error
    except OSError as error:
        problems.append(f"{source} cannot be unpacked into {folder} ({error.strerror})")
        return False
    rank_zero_info(f"Unpacked {files.name} from {source} into {folder}.")
    return True


def _download(dataset_class: type[VisionDataset], root: Path, files: DatasetFiles) -> str | None:
    """Download into a temporary folder, then move the files; return the reason of a failure, else None."""
    new = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{files.name}-", ignore_cleanup_errors=True) as temporary:
            rank_zero_info(f"Downloading {files.name} into {root} ...")
            silent = io.StringIO()  # discards the progress that torchvision prints
            with _timeout(DOWNLOAD_TIMEOUT_S), redirect_stdout(silent), redirect_stderr(silent):
                dataset_class(temporary, download=True)
            for name in files.missing(root):
                (root / files.folder).mkdir(parents=True, exist_ok=True)
                Path(temporary, files.folder, name).replace(root / files.folder / name)
    except Exception as error:  # network, archive and disk may raise any exception
        if new:
            with contextlib.suppress(OSError):
                root.rmdir()
        text = " ".join(str(error).split()) or type(error).__name__
        return text if len(text) <= 200 else f"{text[:200]} ..."
    return None


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Limit the time that sockets wait for data."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)


def idx_problem(path: Path) -> str | None:
    """Return the problem of an idx file of images or labels, according to its name; None if header and size agree."""
    expected = _IDX_LABELS if "labels" in path.name else _IDX_IMAGES
    dimensions = expected % 256
    header = 4 * (dimensions + 1)
    with path.open("rb") as file:
        head = file.read(header)
    size = path.stat().st_size
    if len(head) < header:
        return f"is truncated after {size} bytes"
    magic, *shape = struct.unpack(f">{dimensions + 1}I", head)
    if magic != expected:
        return f"is not an idx file of the right kind (it begins with {magic}, expected {expected})"
    if size != header + math.prod(shape):
        return f"has {size} bytes, but its header describes {header + math.prod(shape)}"
    return None if size > header else "contains no samples"

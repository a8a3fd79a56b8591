"""Where the files of a torchvision dataset lie; unpack or download them where they are missing."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torchvision.datasets import VisionDataset

from datamodules.files.idx import idx_problem
from datamodules.files.places import cache_root, data_root, exclusive, whole_file

# The Debian package dataset-fashion-mnist: the four files, gzipped.
PACKAGE_DIRS = {"FashionMNIST": (Path("/usr/share/datasets/fashion-mnist"),)}
HINTS = {
    "MNIST": "fetch the four files from https://ossci-datasets.s3.amazonaws.com/mnist/",
    "FashionMNIST": "`apt install dataset-fashion-mnist`, or fetch them from "
    "https://github.com/zalandoresearch/fashion-mnist",
    "CIFAR10": "unpack cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html",
}
DOWNLOAD_TIMEOUT_S = 30.0  # of silence


@dataclass(frozen=True)
class Layout:
    """The files of a dataset below its root; `kind` is `idx` (MNIST), `batches` (CIFAR) or `other`."""

    name: str
    kind: str
    folder: str
    files: tuple[str, ...]
    checksums: dict[str, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)

    def part_of(self, file: str) -> str:
        """`train`, `test` or `both`."""
        return self.parts.get(file, "both")

    def missing(self, root: Path) -> list[str]:
        """The files that are not below this root."""
        return [name for name in self.files if not os.path.isfile(root / self.folder / name)]


def layout_of(dataset_class: type[VisionDataset]) -> Layout:
    """What torchvision's class says in public about its files."""
    facts: Any = dataset_class
    name = dataset_class.__name__
    if hasattr(facts, "resources"):
        files = tuple(Path(url).stem for url, _ in facts.resources)
        parts = {file: "test" if file.startswith("t10k") else "train" for file in files}
        return Layout(name, "idx", f"{name}/raw", files, parts=parts)
    if hasattr(facts, "base_folder") and hasattr(facts, "train_list"):
        parts = {file: "train" for file, _ in facts.train_list} | {file: "test" for file, _ in facts.test_list}
        sums: dict[str, str] = dict([*facts.train_list, *facts.test_list])
        sums[facts.meta["filename"]] = facts.meta["md5"]
        return Layout(name, "batches", facts.base_folder, tuple(sums), sums, parts)
    return Layout(name, "other", "", ())


def locate(
    dataset_class: type[VisionDataset],
    data_dir: str | None = None,
    download: bool = True,
    package_dirs: Sequence[Path] | None = None,
) -> Path:
    """The root folder below which all files of the dataset lie.

    Looked for in the data folder, then in the cache; then gzipped copies (in the data folder, in `package_dirs`)
    are unpacked; then they are downloaded. One sentence says it where nothing helps.
    """
    layout = layout_of(dataset_class)
    root, cache = data_root(data_dir), cache_root()
    packages = PACKAGE_DIRS.get(layout.name, ()) if package_dirs is None else tuple(package_dirs)
    for candidate in (root, cache):
        if not layout.missing(candidate):
            return candidate
    hindrances: list[str] = []
    with exclusive(root):
        for source in (root / layout.folder, *packages):
            for target in (root, cache):
                if not layout.missing(target) or _unpack(source, target, layout, hindrances):
                    return target
        reason = _download(dataset_class, root, layout) if download else "download is switched off"
    if reason is None:
        return root
    raise MisconfigurationException(
        f"data: {layout.name} is not complete: {', '.join(layout.missing(root))} missing; looked in "
        f"{', '.join(map(str, (root / layout.folder, cache / layout.folder, *packages)))}; "
        + "".join(f"{hindrance}; " for hindrance in hindrances)
        + f"no download: {reason}. "
        f"Name the folder that holds {layout.folder}/ by LITLAB_DATA_DIR or --data.data_dir"
        + (f", or {HINTS[layout.name]}." if layout.name in HINTS else ".")
    )


def _unpack(source: Path, target: Path, layout: Layout, hindrances: list[str]) -> bool:
    """Unpack `source/*.gz` into the target root, whole files only; False if there is nothing.

    False also where the folder cannot be written or the disk is full: then the reason is added to `hindrances`.
    """
    if layout.kind != "idx":
        return False
    folder = target / layout.folder
    packed = {name: source / f"{name}.gz" for name in layout.missing(target)}
    if not all(os.path.isfile(path) for path in packed.values()):
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in packed.items():
            with whole_file(folder / name) as out, gzip.open(path) as compressed:
                shutil.copyfileobj(compressed, out)
                out.flush()
                if problem := idx_problem(Path(out.name)):
                    raise gzip.BadGzipFile(f"unpacked it {problem}")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise MisconfigurationException(f"data: {path} is damaged ({error}). Replace it with a whole copy.") from error
    except OSError as error:
        hindrances.append(f"{source} cannot be unpacked into {folder} ({error.strerror})")
        return False
    rank_zero_info(f"{layout.name} unpacked from {source} into {folder}.")
    return True


def _download(dataset_class: type[VisionDataset], root: Path, layout: Layout) -> str | None:
    """Download aside, then move each file into place; the reason where that fails, None where it succeeds."""
    new = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{layout.name}-", ignore_cleanup_errors=True) as aside:
            rank_zero_info(f"Downloading {layout.name} into {root} ...")
            with _time_limit(DOWNLOAD_TIMEOUT_S), _silence():
                dataset_class(aside, download=True)
            for name in layout.missing(root):
                (root / layout.folder).mkdir(parents=True, exist_ok=True)
                Path(aside, layout.folder, name).replace(root / layout.folder / name)
    except Exception as error:  # whatever a network, an archive or a disk can do wrong
        if new:
            with contextlib.suppress(OSError):
                root.rmdir()
        text = " ".join(str(error).split()) or type(error).__name__
        return text if len(text) <= 200 else f"{text[:200]} ..."
    return None


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep back torchvision's own progress lines."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield

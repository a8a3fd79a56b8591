"""Folders for data and caches, and safe writing in them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException


def data_root(data_dir: str | None) -> Path:
    """The argument, else LITLAB_DATA_DIR, else `data` in the working folder."""
    source = "data.data_dir" if data_dir else "LITLAB_DATA_DIR"
    return _expanded(Path(data_dir or os.environ.get("LITLAB_DATA_DIR") or "data"), source)


def cache_root() -> Path:
    """Where litlab keeps what it can make again: LITLAB_CACHE_DIR, else `litlab` in the user's cache folder."""
    own = os.environ.get("LITLAB_CACHE_DIR")
    return _expanded(Path(own or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "litlab")), "LITLAB_CACHE_DIR")


def _expanded(path: Path, source: str) -> Path:
    """With the home folder for `~`; `source` is what names the path."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise MisconfigurationException(
            f"{source}: the home folder in {path} is not known. Write the whole path."
        ) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[io.BufferedWriter]:
    """A file that appears under its name only when it is complete."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.close(handle)
        with open(temporary, "wb") as out:
            yield out
        Path(temporary).chmod(0o644)  # mkstemp makes it private
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(folder: Path, waiting: str = "") -> Iterator[None]:
    """One process of this machine at a time; `waiting` is said by one that has to wait.

    The lock lies in the temporary folder, as `folder` may be read-only or not there yet.
    """
    key = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir(), f"litlab-{os.getuid() if hasattr(os, 'getuid') else 0}-{key}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if waiting:
            rank_zero_info(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()

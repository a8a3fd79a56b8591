"""Folders for data and caches, and a lock for them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException


def data_root(data_dir: str | None) -> Path:
    """Return `data_dir`, else the folder named by LITLAB_DATA_DIR, else ./data."""
    source = "data.data_dir" if data_dir else "LITLAB_DATA_DIR"
    return _expanded(Path(data_dir or os.environ.get("LITLAB_DATA_DIR") or "data"), source)


def cache_root() -> Path:
    """Return the folder for files that can be recreated: LITLAB_CACHE_DIR, else `litlab` in the user's cache folder."""
    folder = os.environ.get("LITLAB_CACHE_DIR")
    return _expanded(Path(folder or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "litlab")), "LITLAB_CACHE_DIR")


def _expanded(path: Path, source: str) -> Path:
    """Return the path with `~` replaced; `source` is the option or variable to name in an error."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise MisconfigurationException(f"{source}: home folder not found in {path}. Set the complete path.") from error


@contextlib.contextmanager
def exclusive_lock(folder: Path, waiting: str = "") -> Iterator[None]:
    """Let only one process of this machine enter at a time; a process that has to wait logs `waiting`.

    The lock file is in the temporary folder, because `folder` may be read-only or may not exist yet.
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

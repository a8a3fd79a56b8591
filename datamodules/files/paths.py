"""Folders for data and caches; atomic writing and locking in them."""

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
    """Return the argument, else LITLAB_DATA_DIR, else `data` in the working folder."""
    source = "data.data_dir" if data_dir else "LITLAB_DATA_DIR"
    return _expanded(Path(data_dir or os.environ.get("LITLAB_DATA_DIR") or "data"), source)


def cache_root() -> Path:
    """Return the folder for recreatable files: LITLAB_CACHE_DIR, else `litlab` in the user's cache folder."""
    own = os.environ.get("LITLAB_CACHE_DIR")
    return _expanded(Path(own or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "litlab")), "LITLAB_CACHE_DIR")


def _expanded(path: Path, source: str) -> Path:
    """Replace `~` by the home folder; `source` names the path in the error."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise MisconfigurationException(
            f"{source}: the home folder in {path} is unknown. Set the complete path."
        ) from error


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[io.BufferedWriter]:
    """Open a file that appears under its name only when it is complete."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.close(handle)
        with open(temporary, "wb") as out:
            yield out
        Path(temporary).chmod(0o644)  # mkstemp sets 0o600
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive_lock(folder: Path, waiting: str = "") -> Iterator[None]:
    """Let one process of this machine enter at a time; a process that has to wait logs `waiting`.

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

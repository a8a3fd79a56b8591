"""Atomic file writes: a file on disk is complete or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` when the block succeeds, and is removed when it fails.

    The data is synced to disk before the rename, and the rename before this returns. After a power failure the old or
    the new file is there.
    """
    target = Path(path)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # some systems cannot open a folder
        handle = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def atomic_copy(source: str | Path, target: str | Path) -> None:
    """Copy a file atomically."""
    with open(source, "rb") as read, atomic_write(target) as written:
        shutil.copyfileobj(read, written)

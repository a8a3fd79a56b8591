"""Files that are on the disk whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write in, which takes the place of `path` when the block ends well and is gone when it does not.

    Its bytes are on the disk before it gets its name, and the name before this returns: a power cut leaves the old file
    or the new one.
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
    _keep_name(target.parent)


def copy_whole(source: str | Path, target: str | Path) -> None:
    """The target appears whole or not at all."""
    with open(source, "rb") as read, whole_file(target) as written:
        shutil.copyfileobj(read, written)


def _keep_name(folder: Path) -> None:
    with suppress(OSError):  # not every system lets a folder be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

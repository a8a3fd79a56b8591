"""Atomic file writes: the file is complete or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` if the block succeeds, and is removed if the block fails.

    Data and rename are synced to disk. After a power failure, `path` is either the complete old or the complete new
    file.
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
    with suppress(OSError):  # some operating systems cannot open a folder
        handle = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_unfinished(folder: str | Path) -> None:
    """Remove the temporary files that killed processes left in a folder and its subfolders."""
    for path in Path(folder).rglob("*.part"):
        writer = path.suffixes[-2].removeprefix(".") if len(path.suffixes) > 1 else ""
        if not (writer.isdecimal() and _is_alive(int(writer))):
            with suppress(OSError):
                path.unlink()


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # where `os.kill` would end the process
        return False
    try:
        os.kill(process, 0)
    except PermissionError:  # the process of another user
        return True
    except (OSError, OverflowError):
        return False
    return True


def atomic_copy(source: str | Path, target: str | Path) -> None:
    """Copy a file atomically."""
    with open(source, "rb") as read, atomic_write(target) as written:
        shutil.copyfileobj(read, written)

"""Standard streams that are closed or cannot be written. Does not import torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


def open_closed_streams() -> None:
    """Open the null device for each closed standard stream, so that no file gets its number and its output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest free number
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = os.fdopen(number, "r" if number == 0 else "w", closefd=False, encoding="utf-8")
            setattr(sys, name, stream)


class LastingStream:
    """Text stream that becomes silent if it cannot be written, for example because the disk is full.

    A broken pipe still raises an error, because `litlab list | head` must end.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error = ""  # why it became silent

    def write(self, text: str) -> int:
        """Write the text; return its length."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write all lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what the stream has stored."""
        self._attempt(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _attempt(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except BrokenPipeError:
            raise
        except OSError as error:
            self.error = error.strerror or str(error)
            self._silence()

    def close_pipe(self) -> None:
        """Write the rest, or drop it if nothing reads the pipe, so that Python reports no error when it exits."""
        try:
            self.flush()
        except BrokenPipeError:
            self._silence()

    def _silence(self) -> None:
        with suppress(OSError, ValueError):  # what the stream has stored goes there too
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


@contextmanager
def lasting_streams() -> Iterator[LastingStream]:
    """Let stdout and stderr become silent in the block, instead of ending it with an error; yield stdout."""
    open_closed_streams()
    before = sys.stdout, sys.stderr
    out, err = LastingStream(sys.stdout), LastingStream(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield out
    finally:
        out.close_pipe()
        err.close_pipe()
        sys.stdout, sys.stderr = before

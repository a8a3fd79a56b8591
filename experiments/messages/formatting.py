"""Helpers for messages. Imports no torch."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ' Did you mean X?' for the nearest known word, or an empty string if none is near."""
    names = {name.lower(): name for name in known}
    begins = [name for name in names if len(word) > 2 and name.startswith(word.lower())]  # shortened, not mistyped
    near = begins if len(begins) == 1 else difflib.get_close_matches(word.lower(), begins or names, n=1, cutoff=0.6)
    return f" Did you mean {names[near[0]]}?" if near else ""


def say(line: str) -> None:
    """Print a line to stderr, so that it does not mix with the result of a command."""
    print(line, file=sys.stderr, flush=True)


def count(number: int, noun: str = "") -> str:
    """12000 -> '12,000'; with a noun '12,000 samples' or '1 sample'."""
    text = f"{number:,}"
    return f"{text} {noun}{'' if number == 1 else 's'}" if noun else text


def one_line(text: str, limit: int = 400) -> str:
    """Collapse white space, cut what is longer than `limit` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def shown(path: Path) -> str:
    """Return a path as a user would type it: relative if that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def sizes_text(data: Any, kept: dict[str, int] | None = None) -> str:
    """Return ': 48,000 train, 12,000 validation', empty for data without sizes; `kept` are sizes known before."""
    sizes = getattr(data, "split_sizes", None)
    if not callable(sizes):
        return ""
    names = {"val": "validation"}
    parts = [f"{count(number)} {names.get(part, part)}" for part, number in {**(kept or {}), **sizes()}.items()]
    return f": {', '.join(parts)}" if parts else ""

"""Formatting and printing of messages. Does not import torch."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


# lit_models/parts/specs.py and datamodules/augmentation/transform.py have their own copies: the packages cannot import
# each other.
def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ' Did you mean X?' for the most similar known name, or an empty string if none is similar."""
    typed, names = str(word).lower(), {name.lower(): name for name in known}
    begins = [name for name in names if len(typed) > 2 and name.startswith(typed)]  # shortened, not misspelled
    near = begins if len(begins) == 1 else difflib.get_close_matches(typed, begins or names, n=1, cutoff=0.6)
    return f" Did you mean {names[near[0]]}?" if near else ""


def say(line: str) -> None:
    """Print a line to stderr, so that stdout contains only the result of a command."""
    print(line, file=sys.stderr, flush=True)


def count(number: int, noun: str = "") -> str:
    """Format a number: 12000 -> '12,000'; with a noun, '12,000 samples' or '1 sample'."""
    text = f"{number:,}"
    return f"{text} {noun}{'' if number == 1 else 's'}" if noun else text


def one_line(text: str, limit: int = 400) -> str:
    """Collapse white space and shorten the text to `limit` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def shown(path: Path) -> str:
    """Return the path relative to the working folder if that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def sizes_text(data: Any, stored: dict[str, int] | None = None) -> str:
    """Return ': 48,000 train, 12,000 validation', or '' for data without sizes; `stored` has sizes of the run."""
    sizes = getattr(data, "split_sizes", None)
    if not callable(sizes):
        return ""
    names = {"val": "validation"}
    texts = [f"{count(size)} {names.get(split, split)}" for split, size in {**(stored or {}), **sizes()}.items()]
    return f": {', '.join(texts)}" if texts else ""

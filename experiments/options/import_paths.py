"""Imports litlab's rooms from beside this package, whatever the working folder holds.

With `python -m experiments` or in a notebook the working folder comes first on the path, and a user's project may well
have a `callbacks.py` or a folder `configs` of its own.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


import importlib

HOME = Path(__file__).resolve().parents[2]


def import_rooms() -> None:
    """Make `callbacks`, `datamodules` and `lit_models` mean litlab's from now on; imports torch."""
    sys.path.insert(0, str(HOME))
    try:
        for name in ("callbacks", "datamodules", "lit_models"):
            importlib.import_module(name)
    finally:
        sys.path.remove(str(HOME))


@contextmanager
def working_folder_importable() -> Iterator[None]:
    """A console script does not have the working folder on sys.path: `class_path: my_models.Net` needs it."""
    folder = os.getcwd()
    if folder in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)

"""Imports litlab's rooms from beside this package, whatever the working folder holds.

With `python -m experiments` or in a notebook the working folder comes first on the path, and a user's project may well
have a `callbacks.py` or a folder `configs` of its own.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]


def import_rooms() -> None:
    """Make `callbacks`, `datamodules` and `lit_models` mean litlab's from now on; imports torch."""
    sys.path.insert(0, str(HOME))
    try:
        for name in ("callbacks", "datamodules", "lit_models"):
            importlib.import_module(name)
    finally:
        sys.path.remove(str(HOME))

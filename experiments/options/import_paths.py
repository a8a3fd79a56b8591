"""Imports of litlab's packages and of modules in the working folder."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from litlab.packages import claim_names, leave_folder


def import_packages() -> None:
    """Import `callbacks`, `datamodules` and `lit_models`, which import torch."""
    claim_names()
    for name in ("callbacks", "datamodules", "lit_models"):
        importlib.import_module(name)


@contextmanager
def working_folder_importable() -> Iterator[None]:
    """Add the working folder to `sys.path`, which a console script lacks, so that `class_path: my_models.Net` works."""
    folder = os.getcwd()
    missing = folder not in sys.path and "" not in sys.path
    if missing:
        sys.path.insert(0, folder)
    claim_names()
    try:
        yield
    finally:
        if missing:
            leave_folder(folder)
            with suppress(ValueError):  # the user's code may have removed it
                sys.path.remove(folder)

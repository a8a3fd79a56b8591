"""Content of environment.json, for the commands that continue, repeat or evaluate a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule

from datamodules import LitDataModule
from experiments.messages.errors import UserError
from experiments.messages.formatting import one_line, shown
from experiments.runs.folder import RunFolder, read_environment


def timestamp() -> str:
    """Return the local time with its offset from UTC, such as 2026-01-31T12:00:00+0100."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def require_environment(folder: RunFolder, command: str, remedy: str, *required: str) -> dict[str, Any]:
    """Return environment.json; raise an error that ends with `remedy` if it cannot be read or lacks an entry."""
    try:
        content = read_environment(folder.environment)
        if missing := [name for name in required if name not in content]:
            raise ValueError(f"it has no `{missing[0]}`")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{command}: {shown(folder.environment)} is missing or corrupted ({one_line(str(error), 100)}). {remedy}"
        ) from error
    return content


def recorded_data(folder: RunFolder | None) -> dict[str, Any]:
    """Return `sizes` and `sha256` of the data that the run was trained on, empty without a record."""
    if folder is None or not folder.environment.is_file():
        return {}
    remedy = "Restore the file, or move it away to continue without it."
    return require_environment(folder, "run", remedy).get("data") or {}


def changed_data(data: LightningDataModule, recorded: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return what differs from the recorded data, its SHA-256 then and now; None if train data and split are equal."""
    if isinstance(data, LitDataModule):
        old, new = recorded.get("sha256") or {}, data.hashes()
        for name, text in (("train_data", "training data"), ("split", "split")):
            if name in old and old[name] != new.get(name):
                return text, str(old[name]), str(new.get(name))
    return None

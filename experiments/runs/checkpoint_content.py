"""The content of checkpoints, loaded as plain data only (`weights_only=True`), and checked before it is used."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks.checkpoints.content_stamp import STAMP, is_intact
from callbacks.checkpoints.exact_state import DATA, KEY
from experiments.messages.formatting import one_line
from experiments.version import CHECKPOINT_FORMAT, VERSION

_TYPES: dict[str, type] = {
    "hyper_parameters": Mapping, "loops": Mapping, "callbacks": Mapping, "optimizer_states": list,
    "lr_schedulers": list, "epoch": int, "global_step": int, "pytorch-lightning_version": str, DATA: Mapping, KEY: list,
}  # fmt: skip
_RUNS = "`litlab list runs` shows all runs"
_OTHER = f"Use another checkpoint; {_RUNS}."


def checkpoint_error(path: Path | None, problem: str, action: str = _OTHER) -> Exception:
    """Return the error for a problem with a checkpoint."""
    return MisconfigurationException(f"checkpoint: {path} {problem}. {action}")


def read(path: Path) -> dict[str, Any]:
    """Return a checkpoint as plain data, with tensors mapped from the file."""
    if path.is_dir():
        raise checkpoint_error(path, "is a folder, but not a run folder", f"Pass a run folder or a file; {_RUNS}.")
    if not path.is_file():
        raise MisconfigurationException(f"checkpoint not found: {path}. Pass a file or a run folder; {_RUNS}.")
    try:
        # Only the zip format can be mapped; torch used another format before 2020.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch raises many types here, from EOFError to UnpicklingError
        raise checkpoint_error(path, f"cannot be loaded: {_reason(path, error)}") from error
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, Mapping) or not any(isinstance(value, torch.Tensor) for value in weights.values()):
        raise checkpoint_error(path, "has no `state_dict` of tensors, so it is not a Lightning checkpoint")
    for name, kind in _TYPES.items():
        if name in content and not isinstance(content[name], kind):
            raise checkpoint_error(path, f"is corrupted: its `{name}` is {one_line(repr(content[name]), 40)}")
    _check_format(path, content.get(STAMP) or {})
    _check_intact(path, content)
    found: dict[str, Any] = content
    return found


def _check_intact(path: Path, content: Mapping[str, Any]) -> None:
    """Raise an error if the content is not as it was saved; without a SHA-256, if it cannot be right."""
    try:
        intact = is_intact(content)
    except Exception:  # such as a tensor without data
        intact = False
    if intact is False:
        raise checkpoint_error(
            path,
            "was changed or corrupted after litlab wrote it",
            "Use another checkpoint or a copy of the file. If you changed it on purpose, remove its key `litlab`.",
        )
    if intact is None:
        if not _archive_is_intact(path):
            raise checkpoint_error(path, "is corrupted: the checksum of its archive is wrong")
        if problem := _implausible(content):
            raise checkpoint_error(path, f"is corrupted: {problem}")


def _archive_is_intact(path: Path) -> bool:
    """Return True if the checksums of the zip archive are right, or if the file has torch's format of before 2020."""
    if not zipfile.is_zipfile(path):
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # zipfile raises many types here
        return False


def _implausible(content: Mapping[str, Any]) -> str:
    """Return the first value that no training can have saved, "" if there is none."""
    for name, value in content["state_dict"].items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and bool(value.isnan().any()):
            return f"its weights `{name}` are NaN"
    counters = {name: content.get(name) for name in ("epoch", "global_step", "loops")}
    for name, number in _numbers(counters):
        if number < 0:
            return f"its `{name}` is {number}"
    return ""


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield all numbers in nested mappings with their dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", number) for inner, number in _numbers(value))
        elif isinstance(value, (int, float)):
            yield name, value


def _check_format(path: Path, written: Any) -> None:
    known = written if isinstance(written, dict) else {"format": "?"}
    if known.get("format", CHECKPOINT_FORMAT) != CHECKPOINT_FORMAT:
        version = known.get("version", "?")
        raise checkpoint_error(
            path,
            f"was written by litlab {version} in format {known['format']}, and this is litlab {VERSION}, which reads "
            f"format {CHECKPOINT_FORMAT}",
            f"Use litlab {version} to load it.",
        )


def _reason(path: Path, error: Exception) -> str:
    """Return the reason why torch rejected the file: loading would run code, or the content is invalid."""
    global_name = re.search(r"GLOBAL ([\w.]+)", str(error))
    if global_name is not None:
        return f"it needs {global_name[1]}, which is not plain data, and litlab never runs code from a file"
    if "TorchScript" in str(error):
        return "it is a TorchScript program, and litlab never runs code from a file"
    with path.open("rb") as file:
        if file.read(1) == b"\x80":  # the first byte of a Python pickle
            return "it is a Python pickle but not a complete checkpoint, and litlab never runs code from a file"
    return "it is corrupted or not a checkpoint"

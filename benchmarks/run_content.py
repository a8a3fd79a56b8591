"""What an interrupted and an uninterrupted run must have in common."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import torch


def content(run: Path) -> dict[str, Any]:
    """Return what must be equal, by name: weights, rows, results and the names of all files."""
    found: dict[str, Any] = {}
    for name in ("last", "best"):
        path = run / "checkpoints" / f"{name}.ckpt"
        weights = torch.load(path, weights_only=True)["state_dict"] if path.is_file() else {}
        found |= {f"{name}.ckpt {key}": value for key, value in weights.items()}
    with (run / "metrics.csv").open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            found[f"metrics.csv line {number}"] = sorted((key, value) for key, value in row.items() if value)
    for number, result in enumerate(json.loads((run / "results.json").read_text())):
        plain = {key: value for key, value in result.items() if key not in ("time", "seconds", "checkpoint_sha256")}
        found[f"results.json entry {number}"] = plain
    files = (str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    found["files"] = sorted(name for name in files if not Path(name).name.startswith("events."))
    found["folders beside the run"] = sorted(path.name for path in run.parent.iterdir())
    return found


def first_difference(own: dict[str, Any], reference: dict[str, Any]) -> str:
    """Return the first entry that differs as text, or ""."""
    for name in [*reference, *(name for name in own if name not in reference)]:
        mine, theirs = own.get(name), reference.get(name)
        same = torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) and theirs is not None else mine == theirs
        if not same:
            return f"{name}: {_text(mine, theirs)} instead of {_text(theirs, mine)}"
    return ""


def _text(value: Any, other: Any) -> str:
    if isinstance(value, list) and isinstance(other, list):  # only what is not on the other side
        value = [entry for entry in value if entry not in other]
    if isinstance(value, dict) and isinstance(other, dict):
        value = {key: entry for key, entry in value.items() if other.get(key) != entry}
    return str(value)[:300]

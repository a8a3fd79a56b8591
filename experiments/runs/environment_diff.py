"""What the numbers of two runs depend on beside chance, and where it differs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.options.config_diff import as_typed, differences
from experiments.runs.checkpoint import Weights
from experiments.runs.folder import RunFolder

Differs = dict[str, dict[str, list[Any]]]  # kind -> name -> [there, here]
KINDS = ("code", "versions", "data", "hardware", "settings")
_MACHINE = ("accelerator", "devices", "nodes", "strategy", "threads")
_ARITHMETIC = ("precision", "channels_last")
_ONLY_LONGER = {"trainer.max_epochs", "trainer.max_steps"}


def circumstances(there: RunFolder, here: RunFolder) -> tuple[Differs, list[str]]:
    """What differs between two runs beside their numbers, and what kinds were not written down."""
    old, new = _json(there.environment), _json(here.environment)
    codes = _code(old), _code(new)
    hashes = _part(old, "data", "sha256"), _part(new, "data", "sha256")
    code = _unequal(*codes)
    hardware = _unequal(_part(old, "hardware"), _part(new, "hardware"), ("system", "processor", "cores", "gpus"))
    chosen = _part(old, "chosen"), _part(new, "chosen")
    documents = [_settings(folder) for folder in (there, here)]
    settings = {as_typed(name): list(values) for name, values in differences(*documents).items()}
    start = [(record.get("started_from") or {}).get("sha256") for record in (old, new)]
    if start[0] != start[1]:
        settings["ckpt_path"] = start
    versions = _unequal(_part(old, "versions"), _part(new, "versions"))
    for record in (old, new):
        for part in record.get("resumed") or []:
            step = f"from step {part.get('from_step')} on"
            changed = dict(part.get("changed") or {})
            if part.get("extend_schedule"):
                changed["extend_schedule"] = [None, part["extend_schedule"]]
            if changed.keys() - _ONLY_LONGER:  # a run that was only made longer equals one that was long from the start
                settings |= {f"{name} ({step})": values for name, values in changed.items()}
            newer = _unequal(_part(record, "versions"), _part(part, "versions"))
            versions |= {f"{name} ({step})": values for name, values in newer.items()}
            code |= {f"{name} ({step})": values for name, values in _unequal(_code(record), _code(part)).items()}
    found: Differs = {
        "code": code,
        "versions": versions,
        "data": _unequal(*hashes),
        "hardware": hardware | _unequal(*chosen, _MACHINE),
        "settings": settings | _unequal(*chosen, _ARITHMETIC),
    }
    sides = {"code": codes, "data": hashes}
    unknown = [kind for kind, (was, now) in sides.items() if not was.keys() & now.keys()]
    return {kind: names for kind, names in found.items() if names}, unknown


def _settings(folder: RunFolder) -> Any:
    """What the weights were trained with, as their checkpoint says; config.yaml may have been edited since."""
    kept = Weights(folder.last, folder).content.get("config") if folder.last.is_file() else None
    return yaml.safe_load(kept if isinstance(kept, str) else folder.config.read_text(encoding="utf-8"))


def differs_words(differs: Differs) -> list[str]:
    """A line for each kind of thing that differs."""
    lines = []
    for kind, names in differs.items():
        changes = (f"{name} {value_text(was)} -> {value_text(now)}" for name, (was, now) in names.items())
        lines.append(f"differs {kind}: {'; '.join(changes)}")
    return lines


def _code(record: Mapping[str, Any]) -> dict[str, Any]:
    git = record.get("git") or {}
    named = {"commit": "git commit", "diff_sha256": "uncommitted changes"}
    return {words: git[name] for name, words in named.items() if name in git} | (record.get("sources") or {})


def _part(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    found: Any = record
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _unequal(old: Mapping[str, Any], new: Mapping[str, Any], names: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    """What both sides state, and differently."""
    both = [name for name in (names or old) if name in old and name in new]
    return {name: [old[name], new[name]] for name in both if old[name] != new[name]}


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def value_text(value: Any) -> str:
    """A hash is cut short; it is looked at, not typed."""
    if isinstance(value, str):
        return f"{value[:12]}…" if re.fullmatch(r"[0-9a-f]{40,}", value) else value
    return "none" if value is None else json.dumps(value)

"""Comparison of the code, versions, data, hardware and options of two runs, on which their results depend."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from experiments.options.config_diff import as_typed, differences
from experiments.options.config_files import load_yaml
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.folder import RunFolder, read_environment

Differs = dict[str, dict[str, list[Any]]]  # kind -> name -> [value there, value here]
KINDS = ("code", "versions", "data", "hardware", "settings")
_DEVICES = ("accelerator", "devices", "nodes", "strategy", "threads")
_ARITHMETIC = ("precision", "channels_last")
_LENGTH_ONLY = {"trainer.max_epochs", "trainer.max_steps"}


def compare_environments(there: RunFolder, here: RunFolder) -> tuple[Differs, list[str]]:
    """Return the differences between two runs by kind, and the kinds that are not recorded."""
    old, new = read_environment(there.environment), read_environment(here.environment)
    codes = _code(old), _code(new)
    hashes = _entry(old, "data", "sha256"), _entry(new, "data", "sha256")
    chosen = _entry(old, "chosen"), _entry(new, "chosen")
    hardware = _unequal(_entry(old, "hardware"), _entry(new, "hardware"), ("system", "processor", "cores", "gpus"))
    configs = [_config(folder) for folder in (there, here)]
    settings = {as_typed(name): list(values) for name, values in differences(*configs).items()}
    starts = [_entry(record, "started_from").get("sha256") for record in (old, new)]
    if starts[0] != starts[1]:
        settings["ckpt_path"] = starts
    found: Differs = {
        "code": _unequal(*codes),
        "versions": _unequal(_entry(old, "versions"), _entry(new, "versions")),
        "data": _unequal(*hashes),
        "hardware": hardware | _unequal(*chosen, _DEVICES),
        "settings": settings | _unequal(*chosen, _ARITHMETIC),
    }
    for record in (old, new):
        for resumed in record.get("resumed") or []:
            for kind, names in _changed_on_resume(record, resumed).items():
                found[kind] |= {f"{name} (from step {resumed.get('from_step')} on)": v for name, v in names.items()}
    recorded = {"code": codes, "data": hashes}
    unknown = [kind for kind, (was, now) in recorded.items() if not was.keys() & now.keys()]
    return {kind: names for kind, names in found.items() if names}, unknown


def _changed_on_resume(record: Mapping[str, Any], resumed: Mapping[str, Any]) -> Differs:
    """Return the changes in an entry of `resumed` of environment.json; a run that only became longer has none."""
    changed = dict(resumed.get("changed") or {})
    if resumed.get("extend_schedule"):
        changed["extend_schedule"] = [None, resumed["extend_schedule"]]
    return {
        "settings": changed if changed.keys() - _LENGTH_ONLY else {},
        "versions": _unequal(_entry(record, "versions"), _entry(resumed, "versions")),
        "code": _unequal(_code(record), _code(resumed)),
    }


def _config(folder: RunFolder) -> Any:
    """Return the config in the newest checkpoint, else config.yaml, which the user may have edited."""
    stored = CheckpointFile(folder.last, folder).content.get("config") if folder.last.is_file() else None
    return load_yaml(stored if isinstance(stored, str) else folder.config.read_text(encoding="utf-8"))


def difference_lines(differs: Differs) -> list[str]:
    """Return one line of text for each kind of difference."""
    lines = []
    for kind, names in differs.items():
        changes = (f"{name} {value_text(was)} -> {value_text(now)}" for name, (was, now) in names.items())
        lines.append(f"differs {kind}: {'; '.join(changes)}")
    return lines


def _code(record: Mapping[str, Any]) -> dict[str, Any]:
    git = record.get("git") or {}
    names = {"commit": "git commit", "diff_sha256": "uncommitted changes"}
    return {text: git[name] for name, text in names.items() if name in git} | (record.get("sources") or {})


def _entry(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return a nested entry, empty if it is missing."""
    for name in names:
        record = record.get(name) or {}
    return dict(record)


def _unequal(old: Mapping[str, Any], new: Mapping[str, Any], names: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    """Return the values that both sides have and that differ."""
    both = [name for name in (names or old) if name in old and name in new]
    return {name: [old[name], new[name]] for name in both if old[name] != new[name]}


def value_text(value: Any) -> str:
    """Return a value as text; hashes are shortened to 12 digits."""
    if isinstance(value, str):
        return f"{value[:12]}…" if re.fullmatch(r"[0-9a-f]{40,}", value) else value
    return "none" if value is None else repr(value) if isinstance(value, float) else json.dumps(value)

"""Differences between two configs, and the names of their keys on the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.options.class_paths import with_public_paths


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys that differ, by dotted name, as (old, new); None if one side has none."""
    was, now = (dict(flat(with_public_paths(dict(content)))) for content in (old, new))
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    return {name: (was.get(name), now.get(name)) for name in names}


def stated(name: str, known: Mapping[str, Any]) -> bool:
    """Return True if a config has this key, or a value such as null in place of its group."""
    return any(name == other or name.startswith(f"{other}.") for other in known)


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def as_typed(name: str) -> str:
    """Return the option's name: model.hidden for model.init_args.hidden."""
    return name.replace(".init_args.", ".").removesuffix(".class_path")

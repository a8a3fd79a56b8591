"""Settings compared: which differ between two configs, and what they are called on the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.options.class_paths import with_public_paths


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by dotted name, as (old, new); None where one side has none."""
    was, now = (dict(flat(with_public_paths(dict(content)))) for content in (old, new))
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    return {name: (was.get(name), now.get(name)) for name in names}


def stated(name: str, known: Mapping[str, Any]) -> bool:
    """Whether settings have this one, or something (null, say) in place of the group that it belongs to."""
    return any(name == other or name.startswith(f"{other}.") for other in known)


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def as_typed(name: str) -> str:
    """As one types it: model.init_args.hidden is --model.hidden."""
    return name.replace(".init_args.", ".").removesuffix(".class_path")

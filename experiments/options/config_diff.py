"""Comparison of configs: class paths in one form, keys by dotted name, differences."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from lit_models.parts.specs import public_path


def with_public_paths(content: Any) -> Any:
    """Return the content of a config with the shortest path of every class, because files of classes may move."""
    if isinstance(content, list):
        return [with_public_paths(value) for value in content]
    if not isinstance(content, dict):
        return content
    return {
        name: _shortest(value) if name == "class_path" and isinstance(value, str) else with_public_paths(value)
        for name, value in content.items()
    }


def _shortest(path: str) -> str:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None) if module else None
    except Exception:  # the project's module may have changed since the run and fail in any way
        return path
    public = public_path(found) if inspect.isclass(found) else path
    return public if public.count(".") < path.count(".") else path


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys that differ, by dotted name, as (old, new); a missing value is None."""
    was, now = (dict(flat(with_public_paths(dict(content)))) for content in (old, new))
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    return {name: (was.get(name), now.get(name)) for name in names}


def stated(name: str, known: Mapping[str, Any]) -> bool:
    """Return True if a config has this key, or a value such as null for a key above it."""
    return any(name == other or name.startswith(f"{other}.") for other in known)


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a nested mapping by dotted name."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def as_typed(name: str) -> str:
    """Return the name of the option for a key: model.hidden for model.init_args.hidden."""
    return name.replace(".init_args.", ".").removesuffix(".class_path")

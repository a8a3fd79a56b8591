"""Class paths in configs."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from lit_models.parts.specs import public_path


def with_public_paths(content: Any) -> Any:
    """Return a config's content with the shortest path of every class, so that its file may move."""
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
    except Exception:  # a project's module of an earlier run may fail in any way
        return path
    public = public_path(found) if inspect.isclass(found) else path
    return public if public.count(".") < path.count(".") else path

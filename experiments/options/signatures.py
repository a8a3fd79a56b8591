"""Arguments of a class, read from its signatures."""

from __future__ import annotations

import inspect
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin


def _init_signatures(cls: Any) -> list[inspect.Signature]:
    """Return the signatures of `__init__`, from the class to the first base class without `**kwargs`."""
    found = []
    for base in inspect.getmro(cls) if isinstance(cls, type) else ():
        if "__init__" in vars(base):
            found.append(inspect.signature(vars(base)["__init__"]))
            if not _has_kwargs(found[-1]):
                break
    return found


def _has_kwargs(signature: inspect.Signature) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())


def parameters(cls: Any) -> dict[str, inspect.Parameter]:
    """Return the arguments of a class by name, also those that `**kwargs` pass to its base classes."""
    found: dict[str, inspect.Parameter] = {}
    for signature in _init_signatures(cls):
        for name, parameter in signature.parameters.items():
            if name != "self" and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(name, parameter)
    return found


def accepts_any(cls: Any) -> bool:
    """Return True if every signature has `**kwargs`, so that no name is unknown."""
    signatures = _init_signatures(cls)
    return bool(signatures) and _has_kwargs(signatures[-1])


def is_required(cls: Any, name: str) -> bool:
    """Return True if the argument exists and has no default."""
    found = parameters(cls).get(name)
    return found is not None and found.default is found.empty


def default_of(cls: Any, name: str) -> Any:
    """Return the default of an argument, or None if it has none."""
    found = parameters(cls).get(name)
    return None if found is None or found.default is found.empty else found.default


def types_of(cls: Any, name: str) -> set[Any]:
    """Return the types of an argument without None: {float} for `float | None`."""
    found = parameters(cls).get(name)
    annotation = found.annotation if found else None
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return set(members) - {None, NoneType}

"""The arguments of a class, read from its signatures."""

from __future__ import annotations

import inspect
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin


def _init_signatures(cls: Any) -> list[inspect.Signature]:
    """Return the signatures of `__init__` from the class up to the first base that takes no `**kwargs`."""
    found = []
    for base in inspect.getmro(cls) if isinstance(cls, type) else ():
        if "__init__" in vars(base):
            signature = inspect.signature(vars(base)["__init__"])
            found.append(signature)
            if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
                break
    return found


def _parameter(cls: Any, name: str) -> inspect.Parameter | None:
    return next((found.parameters[name] for found in _init_signatures(cls) if name in found.parameters), None)


def parameters(cls: Any) -> list[str]:
    """Return the names that a class accepts, followed through `**kwargs` into its base classes."""
    names: list[str] = []
    for signature in _init_signatures(cls):
        plain = [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        names += [name for name in plain if name != "self" and name not in names]
    return names


def accepts_any(cls: Any) -> bool:
    """Return True if `**kwargs` reach the top of the class's bases, so that no name can be called unknown."""
    signatures = _init_signatures(cls)
    return bool(signatures) and any(p.kind is p.VAR_KEYWORD for p in signatures[-1].parameters.values())


def is_required(cls: Any, name: str) -> bool:
    """Return True if the argument exists and has no default."""
    found = _parameter(cls, name)
    return found is not None and found.default is found.empty


def default_of(cls: Any, name: str) -> Any:
    """Return the default of an argument, None if it has none or is unknown."""
    found = _parameter(cls, name)
    return None if found is None or found.default is found.empty else found.default


def types_of(cls: Any, name: str) -> set[Any]:
    """Return the types that an argument may have, without None: {float} for `float | None`."""
    found = _parameter(cls, name)
    annotation = found.annotation if found else None
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return set(members) - {None, NoneType}

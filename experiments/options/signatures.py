"""What a class can be given, read from its signatures."""

from __future__ import annotations

import inspect
from typing import Any


def _initialisers(cls: Any) -> list[inspect.Signature]:
    """Signatures of `__init__` from the class upwards, as far as `**kwargs` hands arguments on."""
    found = []
    for base in inspect.getmro(cls) if isinstance(cls, type) else ():
        if "__init__" in vars(base):
            signature = inspect.signature(vars(base)["__init__"])
            found.append(signature)
            if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
                break
    return found


def parameters(cls: Any) -> list[str]:
    """Names that a class accepts, followed through `**kwargs` into its base classes."""
    names: list[str] = []
    for signature in _initialisers(cls):
        plain = [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        names += [name for name in plain if name != "self" and name not in names]
    return names


def is_required(cls: Any, name: str) -> bool:
    """Whether a class cannot be made without this argument."""
    for signature in _initialisers(cls):
        if name in signature.parameters:
            return signature.parameters[name].default is inspect.Parameter.empty
    return False


def default_of(cls: Any, name: str) -> Any:
    """The default of an argument, None where it has none or is not known."""
    for signature in _initialisers(cls):
        if name in signature.parameters:
            default = signature.parameters[name].default
            return None if default is inspect.Parameter.empty else default
    return None

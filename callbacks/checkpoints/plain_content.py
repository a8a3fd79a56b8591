"""One pass over the content of a checkpoint: NumPy numbers become plain ones, and a SHA-256 covers every value."""

from __future__ import annotations

import copy
import hashlib
import io
from collections import OrderedDict
from collections.abc import Mapping
from operator import is_
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

_SCALARS = frozenset((type(None), bool, int, float, str, bytes))
_MAPPINGS = frozenset((dict, OrderedDict))
_SEQUENCES = frozenset((list, tuple, torch.Size))
_TENSORS = frozenset((torch.Tensor, torch.nn.Parameter))


def as_plain(content: Any, name: str = "") -> tuple[Any, str]:
    """Return the content with plain numbers instead of NumPy's, and the SHA-256 of it.

    Raise an error that names the first value which `torch.load(weights_only=True)` would reject; `name` is the name of
    the content itself. The SHA-256 depends on keys, types, shapes and values, but not on the bytes of the file.
    """
    walk = _Walk()
    try:
        plain = walk.visit(content)
        return (content, walk.hexdigest()) if plain is content else as_plain(plain, name)
    except _NotPlain as error:
        kind = f"{type(error.value).__module__}.{type(error.value).__qualname__}".removeprefix("builtins.")
        raise MisconfigurationException(
            f"checkpoint: {name}{_dotted(error.keys, not name)} must be plain data or tensors, got {kind}, which a "
            "checkpoint cannot load safely. Convert it in the `state_dict` that returns it, for example with .tolist()."
        ) from error


class _NotPlain(Exception):  # noqa: N818 - describes a value
    """A value that a checkpoint cannot store, and the keys that lead to it, innermost first."""

    def __init__(self, value: Any) -> None:
        self.value, self.keys = value, list[Any]()


def _dotted(keys: list[Any], first: bool) -> str:
    """Return keys as text, such as `.lr_schedulers[0].history`; without the dot at the start if `first`."""
    text = "".join(f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]" for key in keys[::-1])
    return text.removeprefix(".") if first else text


class _Walk:
    """The pass. It collects the text of plain values, and adds it to the SHA-256 before the bytes of a tensor."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._texts: list[str] = []

    def hexdigest(self) -> str:
        """Return the SHA-256 of all values so far, 64 hexadecimal digits."""
        self._add_texts()
        return self._digest.hexdigest()

    def visit(self, value: Any) -> Any:
        """Add a value to the SHA-256, and return it as plain data."""
        kind = type(value)
        if kind in _SCALARS:
            self._texts.append(repr(value))
            return value
        if isinstance(value, np.generic):
            plain = value.item()
            if type(plain) not in _SCALARS:
                raise _NotPlain(value)
            return self.visit(plain)
        if kind not in _MAPPINGS and kind not in _SEQUENCES and kind not in _TENSORS:
            _check_loads(value)
        if isinstance(value, torch.Tensor):
            self._add_tensor(value)
        elif isinstance(value, Mapping):
            return self._mapping(value)
        elif isinstance(value, (list, tuple)):
            return self._sequence(value)
        else:
            in_order = sorted(map(repr, value)) if isinstance(value, (set, frozenset)) else value
            self._texts.append(f"{kind.__name__} {in_order!r}")
        return value

    def _add_texts(self) -> None:
        self._digest.update(";".join(self._texts).encode())
        self._texts.clear()

    def _add_tensor(self, value: torch.Tensor) -> None:
        self._texts.append(f"{value.dtype} {tuple(value.shape)}")
        self._add_texts()
        plain = value.detach().cpu()
        if plain.layout != torch.strided or plain.is_quantized:
            plain = plain.dequantize() if plain.is_quantized else plain.to_dense()
        if plain.numel():
            flat = plain.resolve_conj().resolve_neg().reshape(-1)
            self._digest.update(flat.view(torch.uint8).numpy().data)

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        if _SCALARS.issuperset(map(type, value.values())) and _SCALARS.issuperset(map(type, value)):
            self._texts.append(repr(dict(value)))  # counters of loops and options, all at once
            return value
        self._texts.append(f"{type(value).__name__} {len(value)}")
        found = {self.visit(key): self._item(key, item) for key, item in value.items()}
        if isinstance(value, OrderedDict) and vars(value):
            self.visit(vars(value))  # `_metadata` of a `state_dict`
        if all(map(is_, found, value)) and all(map(is_, found.values(), value.values())):
            return value
        changed: Any = copy.copy(value)
        changed.clear()
        changed.update(found)
        return changed

    def _sequence(self, value: Any) -> Any:
        if _SCALARS.issuperset(map(type, value)):
            self._texts.append(repr(value))  # the many numbers of a random state, all at once
            return value
        self._texts.append(f"{type(value).__name__} {len(value)}")
        found = [self._item(index, item) for index, item in enumerate(value)]
        return value if all(map(is_, found, value)) else type(value)(found)

    def _item(self, key: Any, value: Any) -> Any:
        try:
            return self.visit(value)
        except _NotPlain as error:
            error.keys.append(key)
            raise


def _check_loads(value: Any) -> None:
    """Raise an error if `torch.load(weights_only=True)` would reject the value."""
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception as error:  # pickle raises errors of any type
        raise _NotPlain(value) from error

"""Settings given from Python, as words of a command line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException


def as_words(settings: Mapping[str, Any]) -> list[str]:
    """{'model.hidden': [64]} as command-line words; a value is written as JSON, which YAML reads alike."""
    return [f"--{name}={_written(name, value)}" for name, value in settings.items()]


def _written(name: str, value: Any) -> str:
    if isinstance(value, (str, Path)):
        return str(value)
    try:
        text = json.dumps(value, default=_item, ensure_ascii=False)
        # YAML knows neither JSON's pairs of escapes for emoji nor these characters without an escape.
        return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text)
    except (TypeError, ValueError) as error:
        raise MisconfigurationException(
            f"fit: {name} is no plain data ({error}); give numbers, text, lists and mappings of them."
        ) from error


def _item(value: Any) -> Any:
    """A path within a list as text, a number of NumPy's or torch's as Python's."""
    if isinstance(value, Path):
        return str(value)
    if getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"a {type(value).__name__}")

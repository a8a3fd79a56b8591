"""The key `litlab` of a checkpoint, with a SHA-256 of the content that shows whether it was changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from callbacks.checkpoints.plain_content import as_plain

STAMP = "litlab"  # version, format and SHA-256
_SHA256 = "sha256"


def stamped(content: Mapping[str, Any], stamp: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a new checkpoint as plain data, with the entries of `stamp` and its SHA-256."""
    plain, sha256 = as_plain({**content, STAMP: dict(stamp)})
    return {**plain, STAMP: {**stamp, _SHA256: sha256}}


def is_intact(content: Mapping[str, Any]) -> bool | None:
    """Return True if the content is as it was saved, False if it was changed, None if it has no SHA-256."""
    stamp = content.get(STAMP)
    if not isinstance(stamp, Mapping) or _SHA256 not in stamp:
        return None
    others = {name: value for name, value in stamp.items() if name != _SHA256}
    return bool(as_plain({**content, STAMP: others})[1] == stamp[_SHA256])

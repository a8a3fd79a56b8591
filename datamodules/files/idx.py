"""Check of the header of files in MNIST's idx format."""

from __future__ import annotations

import math
import struct
from pathlib import Path

_IMAGES, _LABELS = 2051, 2049  # magic numbers: unsigned bytes in three dimensions and in one


def idx_problem(path: Path) -> str | None:
    """Return the problem of a file of images (or of labels, by its name); None if header and size agree."""
    expected = _LABELS if "labels" in path.name else _IMAGES
    dimensions = expected % 256
    header = 4 * (dimensions + 1)
    with path.open("rb") as file:
        head = file.read(header)
    size = path.stat().st_size
    if len(head) < header:
        return f"is truncated after {size} bytes"
    magic, *shape = struct.unpack(f">{dimensions + 1}I", head)
    if magic != expected:
        return f"is not an idx file of the right kind (it begins with {magic}, expected {expected})"
    if size != header + math.prod(shape):
        return f"has {size} bytes, but its header describes {header + math.prod(shape)}"
    return None if size > header else "contains no samples"

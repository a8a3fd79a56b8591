"""Reader of one image file, with Pillow."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.datasets.folder import IMG_EXTENSIONS

Pixels = NDArray[np.uint8]

EXTENSIONS = (*IMG_EXTENSIONS, ".gif")
# Pillow's formats for these extensions; some other formats would start an external program.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")


def read_image(path: str, channels: int, size: tuple[int, int] | None = None) -> Pixels:
    """Return the image, upright, as uint8 `(channels, H, W)`: RGB or gray. Decoders may raise any exception.

    If `size` (height, width) is given, crop the center to its aspect ratio and resize it. Transparent pixels become
    white, 16-bit values are reduced to their upper 8 bits, and only the first frame of an animation is read.
    """
    with Image.open(path, formats=_FORMATS) as file:
        if size is not None:
            # Decode a large JPEG at 1/2, 1/4 or 1/8 of its size, at least twice as large as needed.
            file.draft(file.mode, (2 * max(size), 2 * max(size)))
        image: Image.Image = ImageOps.exif_transpose(file)
    if image.mode == "F":
        raise ValueError("floating-point pixels of unknown range; convert the image to 8 bits")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB" if channels == 3 else "L")
    if size is not None and image.size != (size[1], size[0]):
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


def why_unreadable(path: str, error: Exception) -> str:
    """Return the reason for an exception of `read_image` in a few words."""
    size = os.path.getsize(path) if os.path.exists(path) else None
    text = " ".join(str(error).split())
    if size == 0:
        return "an empty file"
    if isinstance(error, UnidentifiedImageError):
        return f"{size} bytes of unknown image format"
    if "truncated" in text.lower():
        return f"truncated after {size} bytes"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = text or type(error).__name__
    return text if len(text) <= 120 else f"{text[:120]} ..."

"""One image file as an array of bytes, by Pillow."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.datasets.folder import IMG_EXTENSIONS

Pixels = NDArray[np.uint8]

EXTENSIONS = (*IMG_EXTENSIONS, ".gif")
# Of what Pillow knows, the formats that belong to these endings; others may start a program to be read.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")


def read_image(path: str, channels: int, size: tuple[int, int] | None = None) -> Pixels:
    """The image, upright, as (channels, H, W): 3 is RGB, 1 is grey. Raises whatever a decoder can raise.

    `size` (height, width) cuts out the centre in these proportions and resizes it: nothing is squashed or padded.
    Transparent pixels lie on white, 16-bit values keep their upper 8 bits, of an animation the first frame counts.
    """
    with Image.open(path, formats=_FORMATS) as file:
        if size is not None:
            # A large JPEG is decoded at a half, quarter or eighth, at least twice as large as needed.
            file.draft(file.mode, (2 * max(size), 2 * max(size)))
        image: Image.Image = ImageOps.exif_transpose(file)
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known: convert it to 8 bits")
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
    """A few words for what `read_image` raised."""
    size = os.path.getsize(path) if os.path.exists(path) else None
    text = " ".join(str(error).split())
    if size == 0:
        return "an empty file"
    if isinstance(error, UnidentifiedImageError):
        return f"{size} bytes in no known image format"
    if "truncated" in text.lower():
        return f"truncated after {size} bytes"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = text or type(error).__name__
    return text if len(text) <= 120 else f"{text[:120]} ..."

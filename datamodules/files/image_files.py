"""Reader of one image file, with Pillow."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.datasets.folder import IMG_EXTENSIONS

Pixels = NDArray[np.uint8]

EXTENSIONS = (*IMG_EXTENSIONS, ".gif")
# Pillow's formats for these extensions; some other formats would start an external program.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT, _SIGNED = 258, 262, 339, 2  # TIFF tags, and a value of the last one
_UNSCALED = (
    "1",
    "L;2",
    "L;4",
    "RGB;16B",
)  # pixels of a PNG that Pillow scales to 8 bits, but not the transparent color


def read_image(path: str, channels: int, size: tuple[int, int] | None = None) -> Pixels:
    """Return the image, upright, as uint8 `(channels, H, W)`: RGB or gray. Decoders may raise any exception.

    If `size` (height, width) is given, crop the center to its aspect ratio and resize it. Transparent pixels become
    white, 12-bit and 16-bit values are reduced to their upper 8 bits, and only the first frame of an animation is read.
    """
    return read_with_range(path, channels, size)[0]


def read_with_range(path: str, channels: int, size: tuple[int, int] | None = None) -> tuple[Pixels, int | None]:
    """Return the result of `read_image`, and 8 or 16 if only the values showed how many bits the pixels have."""
    guessed: int | None = None
    with Image.open(path, formats=_FORMATS) as file:
        form = _pixel_format(file)
        if size is not None:
            # Decode a large JPEG at 1/2, 1/4 or 1/8 of its size, at least twice as large as needed.
            file.draft(file.mode, (2 * max(size), 2 * max(size)))
        image: Image.Image = ImageOps.exif_transpose(file)
    if image.mode == "F":
        raise ValueError("floating-point pixels of unknown range; convert the image to 8 bits")
    if image.mode.startswith("I"):
        image, bits = _eight_bits(image, form)
        guessed = bits if form.bits is None else None
    elif form.bits == 16 and np.asarray(image.convert("RGB")).max() < 16:
        raise ValueError("16-bit pixels below 4096 of unknown range; convert the image to 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB" if channels == 3 else "L")
    if size is not None and image.size != (size[1], size[0]):
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1), guessed


class _PixelFormat(NamedTuple):
    """The form of the pixels in the file, as far as Pillow's mode does not show it."""

    bits: int | None = 8  # per channel; None for integers of which only the values show the range
    white_is_zero: bool = False


def _pixel_format(file: Image.Image) -> _PixelFormat:
    """Return the form of the pixels; raise an error for forms that Pillow reads with other values."""
    integers = file.mode.startswith("I")
    if file.format == "TIFF":
        tags: Any = file.tag_v2  # type: ignore[attr-defined]
        if _SIGNED in tags.get(_SAMPLE_FORMAT, ()) and not integers:
            raise ValueError("signed 8-bit pixels; convert the image to unsigned 8 bits")
        bits = None if file.mode == "I" else max(tags.get(_BITS_PER_SAMPLE, (1,)))
        return _PixelFormat(bits, tags.get(_PHOTOMETRIC) == 0)
    raw = file.tile[0][3] if file.format == "PNG" else ""  # type: ignore[attr-defined]
    if "transparency" in file.info and raw in _UNSCALED:
        raise ValueError("a transparent color that is not stored in 8 bits; convert the image to RGBA")
    return _PixelFormat(16 if integers or ";16" in str(raw) else 8)


def _eight_bits(image: Image.Image, form: _PixelFormat) -> tuple[Image.Image, int]:
    """Return an integer image in 8 bits, and its bits per pixel; raise an error if they are unknown."""
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    bits = form.bits or (8 if high < 1 << 8 else 16)
    # 12 bits in 16 would look black. If 16 bits are that dark, 8 bits keep at most 16 gray levels of them.
    if low < 0 or high >= 1 << bits or (bits == 16 and 0 < high < 1 << 12):
        raise ValueError(f"integer pixels from {low} to {high} of unknown range; convert the image to 8 bits")
    gray = (values >> (bits - 8)).astype(np.uint8)
    if form.white_is_zero:  # Pillow inverts only 8-bit images
        gray = 255 - gray
    if (transparent := image.info.get("transparency")) is not None:
        gray[values == transparent] = 255
    return Image.fromarray(gray), bits


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

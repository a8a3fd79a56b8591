"""Every pixel format of Pillow: equal to NumPy arithmetic on the values in the file, or rejected."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image

from datamodules import ImageFolderDataModule
from datamodules.files.image_files import read_image

RNG = np.random.default_rng(0)
V8 = RNG.integers(0, 256, (6, 8)).astype(np.uint8)
V12 = RNG.integers(0, 1 << 12, (6, 8)).astype(np.uint16)
V16 = RNG.integers(0, 1 << 16, (6, 8)).astype(np.uint16)
RGB = RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8)
ALPHA = RNG.integers(0, 256, (6, 8)).astype(np.uint8)
KEY = int(V16[0, 0])
PALETTE = RNG.integers(0, 256, (16, 3)).astype(np.uint8)
INDEX = RNG.integers(0, 16, (6, 8)).astype(np.uint8)


def tiff(pixels: bytes, bits: int, *, signed: bool = False, white_is_zero: bool = False) -> bytes:
    """Return a gray TIFF of 6x8 pixels in a form that Pillow does not write."""
    tags = {256: 8, 257: 6, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1, 278: 6}
    tags |= {279: len(pixels), 339: 1 + signed}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def png(pixels: bytes, bits: int, color_type: int, transparent: bytes = b"") -> bytes:
    """Return a PNG of 6x8 pixels in a form that Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    row = len(pixels) // 6
    rows = b"".join(b"\0" + pixels[start : start + row] for start in range(0, len(pixels), row))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, bits, color_type, 0, 0, 0))
    key = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + header + key + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def on_white(color: Any, alpha: Any) -> Any:
    """Return a color blended with white."""
    share = np.asarray(alpha, np.float64) / 255
    return share * color + (1 - share) * 255


def packed_12_bits(values: Any) -> bytes:
    text = "".join(f"{value:012b}" for value in values.ravel())
    return bytes(int(text[start : start + 8], 2) for start in range(0, len(text), 8))


def palette_image() -> Image.Image:
    image = Image.new("P", (8, 6))
    image.putdata(INDEX.ravel().tolist())
    image.putpalette(PALETTE.ravel().tolist())
    return image


def frames() -> list[Image.Image]:
    return [Image.new("L", (8, 6), value) for value in (200, 30, 90)]


def luma(color: Any) -> Any:
    """Return ITU-R BT.601 luma."""
    return color @ np.array([0.299, 0.587, 0.114])


Y = luma(RGB)
YCBCR = np.dstack([Y, 128 + (RGB[..., 2] - Y) / 1.772, 128 + (RGB[..., 0] - Y) / 1.402])  # ITU-R BT.601
INK = (255.0 - RGB) * (255.0 - ALPHA[..., None]) / 255
PALETTE_ALPHA = RNG.integers(0, 256, 16)

#: name of the file -> (image with options of `save`, or the bytes of the file; right values (H, W) or (H, W, 3))
RIGHT: dict[str, tuple[Any, Any]] = {
    "1.png": (Image.fromarray(V8 > 127), (V8 > 127) * 255),
    "1.tif": (Image.fromarray(V8 > 127), (V8 > 127) * 255),
    "L.png": (Image.fromarray(V8), V8),
    "L transparent.png": ((Image.fromarray(V8), {"transparency": int(V8[0, 0])}), np.where(V8[0, 0] == V8, 255, V8)),
    "LA.png": (Image.fromarray(np.dstack([V8, ALPHA])), on_white(V8, ALPHA)),
    "P.png": (palette_image(), PALETTE[INDEX]),
    "P.gif": (palette_image(), PALETTE[INDEX]),
    "P key.gif": ((palette_image(), {"transparency": 3}), np.where((INDEX == 3)[..., None], 255, PALETTE[INDEX])),
    "P alpha.png": (
        (palette_image(), {"transparency": bytes(PALETTE_ALPHA.tolist())}),
        on_white(PALETTE[INDEX], PALETTE_ALPHA[INDEX][..., None]),
    ),
    "RGB.png": (Image.fromarray(RGB), RGB),
    "RGBA.png": (Image.fromarray(np.dstack([RGB, ALPHA])), on_white(RGB, ALPHA[..., None])),
    "CMYK.tif": (Image.frombytes("CMYK", (8, 6), np.dstack([RGB, ALPHA]).tobytes()), INK),
    "YCbCr.tif": (Image.frombytes("YCbCr", (8, 6), YCBCR.round().clip(0, 255).astype(np.uint8).tobytes()), RGB),
    "16.png": (Image.fromarray(V16), V16 // 256),
    "16.tif": (Image.fromarray(V16), V16 // 256),
    "16 key.png": ((Image.fromarray(V16), {"transparency": KEY}), np.where(V16 == KEY, 255, V16 // 256)),
    "16 white is zero.tif": (tiff(V16.tobytes(), 16, white_is_zero=True), (65535 - V16) // 256),
    "16.pgm": (b"P5 8 6 65535\n" + V16.astype(">u2").tobytes(), V16 // 256),
    "16 color.png": (png((RGB * np.uint16(257)).tobytes(), 16, 2), RGB),
    "12.tif": (tiff(packed_12_bits(V12), 12), V12 // 16),
    "12.pgm": (b"P5 8 6 4095\n" + V12.astype(">u2").tobytes(), V12 // 16),
    "black 16.png": (Image.fromarray(V16 * 0), V8 * 0),
    "int32 of 8 bits.tif": (Image.fromarray(V8.astype(np.int32)), V8),
    "int32 of 16 bits.tif": (Image.fromarray(V16.astype(np.int32)), V16 // 256),
    "uint32 of 8 bits.tif": (tiff(V8.astype("<u4").tobytes(), 32), V8),
    "int16 of 8 bits.tif": (tiff(V8.astype("<i2").tobytes(), 16, signed=True), V8),
    "4.png": (png(bytes((INDEX[:, ::2] * 16 + INDEX[:, 1::2]).ravel().tolist()), 4, 0), INDEX * 17),
    **{f"frames.{ending}": ((frames()[0], {"save_all": True, "append_images": frames()[1:]}), V8 * 0 + 200)
       for ending in ("gif", "tif", "png", "webp")},
}  # fmt: skip

REJECTED: dict[str, tuple[Any, str]] = {
    "float.tif": (Image.fromarray(V8.astype(np.float32)), "floating-point pixels"),
    "12 in 16.tif": (Image.fromarray(V12), f"integer pixels from {V12.min()} to {V12.max()} of unknown range"),
    "12 in 16.png": (Image.fromarray(V12), "of unknown range"),
    "12 in 32.tif": (Image.fromarray(V12.astype(np.int32)), "of unknown range"),
    "8 in 16.png": (Image.fromarray(V8.astype(np.uint16)), "of unknown range"),
    "negative.tif": (Image.fromarray(V8.astype(np.int32) - 3), "of unknown range"),
    "20 bits.tif": (Image.fromarray(V16.astype(np.int32) * 16), "of unknown range"),
    "12 in 16 color.png": (png((RGB * np.uint16(16)).astype(">u2").tobytes(), 16, 2), "16-bit pixels below 4096"),
    "signed.tif": (tiff(V8.tobytes(), 8, signed=True), "signed 8-bit pixels"),
    "key in 4 bits.png": (png(bytes(24), 4, 0, struct.pack(">H", 5)), "a transparent color"),
    "key in 16 bits.png": (png((RGB * np.uint16(257)).tobytes(), 16, 2, bytes(6)), "a transparent color"),
}


def write(path: Path, content: Any) -> str:
    """Write the bytes, or save the image, and return the path."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        image, options = content if isinstance(content, tuple) else (content, {})
        image.save(path, **options)
    return str(path)


@pytest.mark.parametrize("name", RIGHT)
def test_a_format_is_right(tmp_path: Path, name: str) -> None:
    content, expected = RIGHT[name]
    path = write(tmp_path / name, content)
    expected = np.asarray(expected, np.float64)
    color = expected if expected.ndim == 3 else np.stack([expected] * 3, 2)
    np.testing.assert_allclose(read_image(path, 3).astype(np.float64), color.transpose(2, 0, 1), atol=2)
    np.testing.assert_allclose(read_image(path, 1)[0].astype(np.float64), luma(color), atol=2)


@pytest.mark.parametrize("name", REJECTED)
def test_a_format_of_unknown_range_is_rejected(tmp_path: Path, name: str) -> None:
    content, reason = REJECTED[name]
    with pytest.raises(ValueError, match=reason):
        read_image(write(tmp_path / name, content), 3)


def folder_of(root: Path, images: list[Any]) -> ImageFolderDataModule:
    for number, image in enumerate(images):
        path = root / "train" / "ab"[number % 2] / f"{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return ImageFolderDataModule(data_dir=str(root), channels=1)


def test_a_folder_of_int32_is_that_of_uint8(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (8, 6, 8)).astype(np.uint8)
    loaded = [
        folder_of(tmp_path / str(dtype), [image.astype(dtype) for image in pixels]).load_part("train")[0]
        for dtype in (np.uint8, np.int32)
    ]
    expected = torch.from_numpy(np.concatenate([pixels[::2], pixels[1::2]]))[:, None]
    assert torch.equal(loaded[0], expected)
    assert torch.equal(loaded[1], expected)


def test_int32_files_of_different_ranges_are_rejected(tmp_path: Path) -> None:
    images = [V16.astype(np.int32), V16.astype(np.int32) * 0, V8.astype(np.int32)]
    assert len(folder_of(tmp_path / "black", images[:2]).load_part("train")[0]) == 2
    with pytest.raises(MisconfigurationException, match=r"a/2\.tif has integer pixels of 0 to 255, and .*a/0\.tif of"):
        folder_of(tmp_path / "mixed", images).load_part("train")

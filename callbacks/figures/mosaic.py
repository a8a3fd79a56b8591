"""Grids of images, built in some milliseconds; a matplotlib figure takes half a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from callbacks.figures.plotting import DIVERGING

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
TILE, SINGLE_TILE, SHORTER_SIDE = 112, 560, 10  # pixels: longer side of a tile, of a single tile; minimum shorter side
COLUMNS, GAP, LINE = 4, 4, 20  # maximum tiles per row; pixels between tiles; height of the caption in pixels


def image_with_tiles(image: Pixels, tiles: Tensor, caption: str, low: float, high: float, signed: bool) -> Pixels:
    """Return an image `(H, W, 3)` next to tiles `(N, H, W)` that share a color scale from `low` to `high`.

    The scale is blue below zero and red above zero if `signed`, else black to white.
    """
    shown = colored(resized(tiles, TILE if len(tiles) > 1 else SINGLE_TILE).numpy(), low, high, signed)
    height, width = shown.shape[1:3]
    columns = max(1, min(COLUMNS, len(shown), COLUMNS * TILE // width))
    rows = -(-len(shown) // columns)
    planes = resized(torch.from_numpy(image).permute(2, 0, 1), 2 * TILE if rows > 1 else TILE)
    left = planes.permute(1, 2, 0).numpy().astype(np.uint8)
    offset = left.shape[1] + 3 * GAP
    sheet_height = LINE + max(rows * (height + GAP) - GAP, left.shape[0])
    sheet = np.full((sheet_height, offset + columns * (width + GAP) - GAP, 3), 255, dtype=np.uint8)
    sheet[LINE : LINE + left.shape[0], : left.shape[1]] = left
    for index, tile in enumerate(shown):
        top, start = LINE + index // columns * (height + GAP), offset + index % columns * (width + GAP)
        sheet[top : top + height, start : start + width] = tile
    return with_caption(sheet, caption)


def stack_vertically(blocks: Sequence[Pixels]) -> Pixels:
    """Return the images one below the other on white."""
    width = max(block.shape[1] for block in blocks)
    padding = [((GAP, GAP), (GAP, GAP + width - block.shape[1]), (0, 0)) for block in blocks]
    return np.concatenate([np.pad(*pair, constant_values=255) for pair in zip(blocks, padding, strict=True)])


def colored(values: Any, low: float, high: float, signed: bool) -> Pixels:
    """Return values of shape `(...)` as colors `(..., 3)`."""
    share = np.clip((values - low) / (high - low or 1.0), 0.0, 1.0)
    if not signed:
        return np.repeat((255 * share).astype(np.uint8)[..., None], 3, axis=-1)
    from matplotlib import colormaps

    colors: Pixels = (255 * colormaps[DIVERGING](share)[..., :3]).astype(np.uint8)
    return colors


def resized(values: Tensor, side: int) -> Tensor:
    """Return values `(N, H, W)` with a longer side of about `side`; they are repeated or averaged.

    A side shorter than `SHORTER_SIDE` is enlarged further, so that a single row of units is visible.
    """
    shape = values.shape[1:]
    times = max(1, side // max(shape))
    sizes = [max(min(n * times, side), min(SHORTER_SIDE, side)) for n in shape]
    averaged = [min(size, n) for size, n in zip(sizes, shape, strict=True)]
    values = nn.functional.adaptive_avg_pool2d(values.float(), (averaged[0], averaged[1]))
    for axis in (0, 1):
        values = values.repeat_interleave(-(-sizes[axis] // shape[axis]), dim=axis + 1)
    return values


def line_of_text(text: str) -> Pixels:
    """Return an image of one line of text."""
    return with_caption(np.full((LINE, 1, 3), 255, dtype=np.uint8), text)


def with_caption(sheet: Pixels, caption: str) -> Pixels:
    """Return the sheet with text in its upper left corner; a longer text widens the sheet."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(13)
    needed = int(font.getlength(caption)) + 2
    if needed > sheet.shape[1]:
        sheet = np.pad(sheet, ((0, 0), (0, needed - sheet.shape[1]), (0, 0)), constant_values=255)
    image = Image.fromarray(sheet)
    ImageDraw.Draw(image).text((0, 0), caption, fill="black", font=font)
    return np.asarray(image)

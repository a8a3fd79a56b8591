"""Grids of images, built in a few milliseconds; a matplotlib figure takes half a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from callbacks.figures.plotting import DIVERGING

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
TILE, SINGLE_TILE, SHORTER_SIDE = 112, 560, 10  # pixels: longer side of a tile, of a single tile; least shorter side
COLUMNS, GAP, LINE = 4, 4, 20  # tiles per row; pixels between tiles and of the caption's line


def image_with_tiles(
    image: Pixels, tiles: Sequence[Tensor], caption: str, low: float, high: float, signed: bool
) -> Pixels:
    """Return an image `(H, W, 3)` next to tiles `(H, W)` that share a color scale from `low` to `high`.

    The scale is blue below zero and red above if `signed`, else black to white.
    """
    side = TILE if len(tiles) > 1 else SINGLE_TILE
    shown = [colored(resized(tile, side).numpy(), low, high, signed) for tile in tiles]
    height, width = (max(one.shape[axis] for one in shown) for axis in (0, 1))
    columns = max(1, min(COLUMNS, len(shown), max(COLUMNS * TILE // width, 1)))
    rows = -(-len(shown) // columns)
    planes = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)
    left = np.stack([resized(plane, 2 * TILE if rows > 1 else TILE).numpy() for plane in planes], axis=-1)
    left = left.astype(np.uint8)
    grid_height = rows * (height + GAP) - GAP
    sheet = np.full(
        (LINE + max(grid_height, left.shape[0]), left.shape[1] + 3 * GAP + columns * (width + GAP) - GAP, 3),
        255,
        dtype=np.uint8,
    )
    sheet[LINE : LINE + left.shape[0], : left.shape[1]] = left
    for index, one in enumerate(shown):
        top = LINE + index // columns * (height + GAP)
        start = left.shape[1] + 3 * GAP + index % columns * (width + GAP)
        sheet[top : top + one.shape[0], start : start + one.shape[1]] = one
    return with_caption(sheet, caption)


def stack_vertically(blocks: Sequence[Pixels]) -> Pixels:
    """Return the images one below the other on white."""
    width = max(one.shape[1] for one in blocks) + 2 * GAP
    sheet = np.full((sum(one.shape[0] + 2 * GAP for one in blocks), width, 3), 255, dtype=np.uint8)
    top = GAP
    for one in blocks:
        sheet[top : top + one.shape[0], GAP : GAP + one.shape[1]] = one
        top += one.shape[0] + 2 * GAP
    return sheet


def colored(values: Any, low: float, high: float, signed: bool) -> Pixels:
    """Return values `(H, W)` as colors `(H, W, 3)`."""
    share = np.clip((values - low) / (high - low or 1.0), 0.0, 1.0)
    if not signed:
        return np.repeat((255 * share).astype(np.uint8)[..., None], 3, axis=2)
    from matplotlib import colormaps

    found: Pixels = (255 * colormaps[DIVERGING](share)[..., :3]).astype(np.uint8)
    return found


def resized(values: Tensor, side: int) -> Tensor:
    """Return values `(H, W)` with a longer side of about `side`: values repeated if enlarged, averaged if reduced.

    A shorter side below `SHORTER_SIDE` is enlarged further, so that a single row of units is visible.
    """
    sizes = []
    times = max(1, side // max(values.shape))
    for size in values.shape:
        size = size * times if size * times <= side else side
        sizes.append(max(size, min(SHORTER_SIDE, side)))
    wanted = [size if size < n else -(-size // n) * n for size, n in zip(sizes, values.shape, strict=True)]
    averaged = [min(size, n) for size, n in zip(wanted, values.shape, strict=True)]
    values = nn.functional.adaptive_avg_pool2d(values[None].float(), (averaged[0], averaged[1]))[0]
    for axis in (0, 1):
        values = values.repeat_interleave(wanted[axis] // averaged[axis], dim=axis)
    return values


def with_caption(sheet: Pixels, caption: str) -> Pixels:
    """Return the sheet with a line of text in its upper left corner, widened if the text is longer."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(13)
    needed = int(font.getlength(caption)) + 2
    if needed > sheet.shape[1]:
        sheet = np.pad(sheet, ((0, 0), (0, needed - sheet.shape[1]), (0, 0)), constant_values=255)
    image = Image.fromarray(sheet)
    ImageDraw.Draw(image).text((0, 0), caption, fill="black", font=font)
    return np.asarray(image)

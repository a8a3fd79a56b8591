"""Pictures side by side, put together in a few milliseconds where a matplotlib figure takes half a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from callbacks.figures.drawing import DIVERGING

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
TILE, COLUMNS, GAP, LINE = 112, 4, 4, 20  # pixels of a tile's longer side, tiles in a row, between them, of a caption
ALONE, LEAST = 560, 10  # pixels of the longer side of a tile without company, and of any tile's shorter side


def block(picture: Pixels, tiles: Sequence[Tensor], caption: str, low: float, high: float, signed: bool) -> Pixels:
    """A picture (height, width, 3) beside tiles (height, width), all on one scale from `low` to `high`; (H, W, 3).

    With `signed` the scale is blue below zero and red above, else black to white.
    """
    side = TILE if len(tiles) > 1 else ALONE
    images = [coloured(fitted(tile, side).numpy(), low, high, signed) for tile in tiles]
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    columns = max(1, min(COLUMNS, len(images), max(COLUMNS * TILE // width, 1)))
    rows = -(-len(images) // columns)
    whole = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)
    left = np.stack([fitted(plane, 2 * TILE if rows > 1 else TILE).numpy() for plane in whole], axis=-1)
    left = left.astype(np.uint8)
    grid_height = rows * (height + GAP) - GAP
    sheet = np.full(
        (LINE + max(grid_height, left.shape[0]), left.shape[1] + 3 * GAP + columns * (width + GAP) - GAP, 3),
        255,
        dtype=np.uint8,
    )
    sheet[LINE : LINE + left.shape[0], : left.shape[1]] = left
    for index, image in enumerate(images):
        top = LINE + index // columns * (height + GAP)
        start = left.shape[1] + 3 * GAP + index % columns * (width + GAP)
        sheet[top : top + image.shape[0], start : start + image.shape[1]] = image
    return written(sheet, caption)


def stacked(blocks: Sequence[Pixels]) -> Pixels:
    """One below the other on white."""
    width = max(one.shape[1] for one in blocks) + 2 * GAP
    sheet = np.full((sum(one.shape[0] + 2 * GAP for one in blocks), width, 3), 255, dtype=np.uint8)
    top = GAP
    for one in blocks:
        sheet[top : top + one.shape[0], GAP : GAP + one.shape[1]] = one
        top += one.shape[0] + 2 * GAP
    return sheet


def coloured(values: Any, low: float, high: float, signed: bool) -> Pixels:
    """(height, width) -> (height, width, 3)."""
    share = np.clip((values - low) / (high - low or 1.0), 0.0, 1.0)
    if not signed:
        return np.repeat((255 * share).astype(np.uint8)[..., None], 3, axis=2)
    from matplotlib import colormaps

    found: Pixels = (255 * colormaps[DIVERGING](share)[..., :3]).astype(np.uint8)
    return found


def fitted(values: Tensor, side: int) -> Tensor:
    """(height, width) with its longer side about `side`: numbers repeated, or means over what falls together.

    A side that would be thinner than a line is repeated further, so that a row of units can be seen.
    """
    sizes = []
    times = max(1, side // max(values.shape))
    for size in values.shape:
        size = size * times if size * times <= side else side
        sizes.append(max(size, min(LEAST, side)))
    wanted = [size if size < n else -(-size // n) * n for size, n in zip(sizes, values.shape, strict=True)]
    small = [min(size, n) for size, n in zip(wanted, values.shape, strict=True)]
    values = nn.functional.adaptive_avg_pool2d(values[None].float(), (small[0], small[1]))[0]
    for axis in (0, 1):
        values = values.repeat_interleave(wanted[axis] // small[axis], dim=axis)
    return values


def written(sheet: Pixels, caption: str) -> Pixels:
    """With a line of text in the upper left corner; the sheet grows where the line is longer."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(13)
    needed = int(font.getlength(caption)) + 2
    if needed > sheet.shape[1]:
        sheet = np.pad(sheet, ((0, 0), (0, needed - sheet.shape[1]), (0, 0)), constant_values=255)
    image = Image.fromarray(sheet)
    ImageDraw.Draw(image).text((0, 0), caption, fill="black", font=font)
    return np.asarray(image)

"""Samples and layers' outputs as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from callbacks.figures.drawing import IMAGE, PALETTE, hide_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_sample(axes: Axes, sample: Tensor) -> None:
    """An image (C, H, W) in grey or colour, a sequence (T, F) as rows, a vector (F,) as bars, few numbers written."""
    values = sample.detach().float().cpu()
    if values.numel() <= 4:
        numbers = "\n".join(f"{value:.4g}" for value in values.flatten().tolist())
        axes.text(0.5, 0.5, numbers, ha="center", va="center", transform=axes.transAxes)
        hide_axes(axes)
        return
    if values.dim() <= 1:
        axes.bar(range(values.numel()), values.reshape(-1).numpy(), color=PALETTE[0])
        axes.tick_params(labelsize=6)
        return
    axes.imshow(*as_image(values), interpolation="nearest")
    hide_axes(axes)


def as_image(sample: Tensor) -> tuple[Any, str | None]:
    """An array for `imshow` and its colour map; the least value is black, the highest white."""
    values = sample.detach().float().cpu()
    values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-12)
    if values.dim() == 3 and values.shape[0] == 3:
        return values.permute(1, 2, 0).numpy(), None
    return (values[0] if values.dim() == 3 else values.reshape(values.shape[0], -1)).numpy(), IMAGE


def channels_of(output: Tensor, most: int, channels_first: bool = False) -> list[Tensor]:
    """The first channels of one sample's output as pictures (height, width).

    (C, H, W) gives one a channel, (T, F) of a recurrent layer one picture of units over time, (F,) one row of units;
    with `channels_first` (C, L) is a row a channel.
    """
    if output.dim() == 2 and channels_first:
        return [output[:most]]
    if output.dim() >= 3:
        return [channel.reshape(channel.shape[0], -1) for channel in output[:most]]
    if output.dim() == 2:
        return [output.T]
    return [output.reshape(1, -1)]


def as_pixels(sample: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A sample as an image (height, width, 3) of bytes."""
    values, _ = as_image(sample if sample.dim() > 1 else sample.reshape(1, -1))
    scaled = (255 * values).astype(np.uint8)
    return scaled if scaled.ndim == 3 else np.repeat(scaled[..., None], 3, axis=2)

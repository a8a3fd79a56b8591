"""Samples and layer outputs as images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from callbacks.figures.plotting import IMAGE, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_sample(axes: Axes, sample: Tensor) -> None:
    """Plot an image `(C, H, W)`, a sequence `(T, F)` as rows, a vector `(F,)` as bars, or up to four values as text."""
    values = sample.detach().float().cpu()
    if values.numel() <= 4:
        text = "\n".join(f"{value:.4g}" for value in values.flatten().tolist())
        axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    if values.dim() <= 1:
        axes.bar(range(values.numel()), values.reshape(-1).numpy(), color=PALETTE[0])
        axes.tick_params(labelsize=6)
        return
    axes.imshow(*as_image(values), interpolation="nearest")
    axes.set_axis_off()


def as_image(sample: Tensor) -> tuple[Any, str | None]:
    """Return an array for `imshow` and its colormap, scaled so that the lowest value is black and the highest white."""
    values = sample.detach().float().cpu()
    values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-12)
    if values.dim() == 3 and values.shape[0] == 3:
        return values.permute(1, 2, 0).numpy(), None
    return (values[0] if values.dim() == 3 else values.reshape(values.shape[0], -1)).numpy(), IMAGE


def channels_of(output: Tensor, limit: int, channels_first: bool = False) -> Tensor:
    """Return the first channels of one sample's output as images `(N, H, W)`.

    `(C, H, W)` becomes one image per channel, `(T, F)` of a recurrent layer one image of units over time, and `(F,)`
    one row of units. With `channels_first`, `(C, L)` becomes one image with a row per channel.
    """
    if output.dim() >= 3:
        return output[:limit].flatten(2)
    if output.dim() == 2:
        return (output[:limit] if channels_first else output.T)[None]
    return output.reshape(1, 1, -1)


def as_pixels(sample: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a sample as an RGB image `(H, W, 3)` of type uint8."""
    values, _ = as_image(sample if sample.dim() > 1 else sample.reshape(1, -1))
    scaled = (255 * values).astype(np.uint8)
    return scaled if scaled.ndim == 3 else np.repeat(scaled[..., None], 3, axis=2)

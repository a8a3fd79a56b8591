"""Cutout and random erasing of batches."""

import math

import torch
from torch import Tensor

from datamodules.augmentation.transform import (
    Parameters,
    Transform,
    TransformContext,
    integer,
    integers,
    interval,
    number,
)

ATTEMPTS = 4  # torchvision makes ten; with its defaults, all four fail for 1% of the samples


class Cutout(Transform):
    """A square of `size` pixels set to `value` (0 black, 1 white), centered on any pixel, also near the border.

    Terrance DeVries, Graham Taylor, arXiv:1708.04552.
    """

    num_uniforms = 2

    def __init__(self, size: int = 8, value: float = 0.0) -> None:
        self.size = integer("cutout: size", size, 1)
        self.value = number("cutout: value", value, 0, 1)
        self.exact = not self.value

    def parameters(self, context: TransformContext) -> Parameters:
        """Return top, left, height and width of the squares, int64 `(B,)` each."""
        top = integers(context.uniforms[:, 0], context.height) - self.size // 2
        left = integers(context.uniforms[:, 1], context.width) - self.size // 2
        extent = torch.full_like(top, self.size)
        return top, left, extent, extent

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Set the rectangles to `value`."""
        return fill_rectangles(images, parameters, self.value)


class Erasing(Transform):
    """A rectangle of random area and shape inside the image, set to `value` with probability p.

    As torchvision's RandomErasing: `scale` is the range of the fraction of the area, `ratio` that of height / width.
    """

    num_uniforms = 3 + 2 * ATTEMPTS

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float = 0.0,
    ) -> None:
        self.p = number("erasing: p", p, 0, 1)
        self.scale = interval("erasing: scale", scale, 0, 1)
        self.ratio = interval("erasing: ratio", ratio, 0.01, 100)
        self.value = number("erasing: value", value, 0, 1)
        self.exact = not self.value

    def parameters(self, context: TransformContext) -> Parameters:
        """Return top, left, height and width of the rectangles, int64 `(B,)` each; a size of 0 has no effect."""
        numbers = context.uniforms
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        share = self.scale[0] + numbers[:, 3 : 3 + ATTEMPTS] * (self.scale[1] - self.scale[0])
        ratio = (low + numbers[:, 3 + ATTEMPTS :] * (high - low)).exp()
        area = share * (context.height * context.width)
        tall, wide = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = (tall < context.height) & (wide < context.width)
        first = fits.to(torch.uint8).argmax(1, keepdim=True)  # the first of equal values
        erase = (numbers[:, 0] < self.p) & fits.any(1)
        height, width = (side.gather(1, first).squeeze(1) * erase for side in (tall, wide))
        top = (numbers[:, 1] * (context.height - height + 1)).long()
        left = (numbers[:, 2] * (context.width - width + 1)).long()
        return top, left, height.long(), width.long()

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Set the rectangles to `value`."""
        return fill_rectangles(images, parameters, self.value)


def rectangle_masks(parameters: Parameters, height: int, width: int) -> Tensor:
    """Return masks of the rectangles (top, left, height, width): bool `(B, 1, H, W)`."""
    rows, columns = _sides(parameters, height, width)
    return rows & columns


def fill_rectangles(images: Tensor, parameters: Parameters, value: float) -> Tensor:
    """Return the images with a rectangle of each set to `value`; integer images only to 0."""
    rows, columns = _sides(parameters, *images.shape[2:])
    if not value:  # multiplication is faster than masking
        return images * (1 - rows.to(images.dtype) * columns.to(images.dtype))
    return images.masked_fill(rows & columns, value)


def _sides(parameters: Parameters, height: int, width: int) -> tuple[Tensor, Tensor]:
    top, left, tall, wide = (value.view(-1, 1, 1, 1) for value in parameters)
    y = torch.arange(height, device=top.device).view(-1, 1)
    x = torch.arange(width, device=top.device)
    return (y >= top) & (y < top + tall), (x >= left) & (x < left + wide)

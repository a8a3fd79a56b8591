"""Cutout and random erasing of whole batches."""

import math

import torch
from torch import Tensor

from datamodules.augmentation.transform import Draw, Parameters, Transform, integers, number, span, whole

ATTEMPTS = 4  # torchvision makes ten; with its default settings one in a hundred fails


class Cutout(Transform):
    """Blank a square of `size` pixels whose centre may be any pixel, so that it may hang over the border.

    Terrance DeVries, Graham Taylor, arXiv:1708.04552. `value` is the brightness put there: 0 black, 1 white.
    """

    columns = 2

    def __init__(self, size: int = 8, value: float = 0.0) -> None:
        self.size = whole("cutout: size", size, 1)
        self.value = number("cutout: value", value, 0, 1)
        self.exact = not self.value

    def parameters(self, draw: Draw) -> Parameters:
        """Top, left, height and width of the square, int64 (B,) each."""
        top = integers(draw.uniforms[:, 0], draw.height) - self.size // 2
        left = integers(draw.uniforms[:, 1], draw.width) - self.size // 2
        extent = torch.full_like(top, self.size)
        return top, left, extent, extent

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Blank."""
        return blank(images, parameters, self.value)


class Erasing(Transform):
    """Blank a rectangle of random area and shape inside the image, with probability p.

    As torchvision's RandomErasing: `scale` is the range of its share of the area, `ratio` that of height by width.
    """

    columns = 3 + 2 * ATTEMPTS

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float = 0.0,
    ) -> None:
        self.p = number("erasing: p", p, 0, 1)
        self.scale = span("erasing: scale", scale, 0, 1)
        self.ratio = span("erasing: ratio", ratio, 0.01, 100)
        self.value = number("erasing: value", value, 0, 1)
        self.exact = not self.value

    def parameters(self, draw: Draw) -> Parameters:
        """Top, left, height and width of the rectangle, int64 (B,) each; a size of 0 blanks nothing."""
        numbers = draw.uniforms
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        share = self.scale[0] + numbers[:, 3 : 3 + ATTEMPTS] * (self.scale[1] - self.scale[0])
        ratio = (low + numbers[:, 3 + ATTEMPTS :] * (high - low)).exp()
        area = share * (draw.height * draw.width)
        tall, wide = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = (tall < draw.height) & (wide < draw.width)
        first = fits.to(torch.uint8).argmax(1, keepdim=True)  # of equal ones the first
        erase = (numbers[:, 0] < self.p) & fits.any(1)
        height, width = (side.gather(1, first).squeeze(1) * erase for side in (tall, wide))
        top = (numbers[:, 1] * (draw.height - height + 1)).long()
        left = (numbers[:, 2] * (draw.width - width + 1)).long()
        return top, left, height.long(), width.long()

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Blank."""
        return blank(images, parameters, self.value)


def inside(parameters: Parameters, height: int, width: int) -> Tensor:
    """Which pixels lie in each sample's rectangle (top, left, height, width): bool (B, 1, H, W)."""
    rows, columns = _sides(parameters, height, width)
    return rows & columns


def blank(images: Tensor, parameters: Parameters, value: float) -> Tensor:
    """The images with a rectangle of each set to `value`; whole numbers only to 0."""
    rows, columns = _sides(parameters, *images.shape[2:])
    if not value:  # products of numbers are faster than masks
        return images * (1 - rows.to(images.dtype) * columns.to(images.dtype))
    return images.masked_fill(rows & columns, value)


def _sides(parameters: Parameters, height: int, width: int) -> tuple[Tensor, Tensor]:
    top, left, tall, wide = (value.view(-1, 1, 1, 1) for value in parameters)
    y = torch.arange(height, device=top.device).view(-1, 1)
    x = torch.arange(width, device=top.device)
    return (y >= top) & (y < top + tall), (x >= left) & (x < left + wide)

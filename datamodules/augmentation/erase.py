"""Cutout and random erasing for batches."""

import math

import torch
from torch import Tensor

from datamodules.augmentation.transform import Parameters, Transform, TransformContext, integers, to_4d
from datamodules.checks import check_integer, check_interval, check_number

ATTEMPTS = 4  # torchvision makes ten; with its defaults, all four fail for 1% of the samples


class FillRectangle(Transform):
    """Base of the transforms that set a rectangle of each image to `value`; their parameters are its sides."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.exact = not value

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Fill the rectangles (top, left, height, width)."""
        rows, columns = _sides(parameters, *images.shape[2:])
        if not self.value:  # multiplication is faster than masking
            return images * (1 - rows.to(images.dtype) * columns.to(images.dtype))
        return images.masked_fill(rows & columns, self.value)


class Cutout(FillRectangle):
    """A square with sides of `size` pixels, set to `value` (0 black, 1 white) and centered on a random pixel.

    The square may extend beyond the border. Terrance DeVries, Graham Taylor, arXiv:1708.04552.
    """

    num_uniforms = 2

    def __init__(self, size: int = 8, value: float = 0.0) -> None:
        super().__init__(check_number("augment: cutout: value", value, 0, 1))
        self.size = check_integer("augment: cutout: size", size)

    def parameters(self, context: TransformContext) -> Parameters:
        """Return top, left, height and width of the squares, int64 `(B,)` each."""
        top = integers(context.uniforms[:, 0], context.height) - self.size // 2
        left = integers(context.uniforms[:, 1], context.width) - self.size // 2
        extent = torch.full_like(top, self.size)
        return top, left, extent, extent


class Erasing(FillRectangle):
    """A rectangle of random area and aspect ratio inside the image, set to `value` with probability p.

    As in torchvision's RandomErasing, `scale` is the range of the rectangle's fraction of the image area, and `ratio`
    is the range of height / width.
    """

    num_uniforms = 3 + 2 * ATTEMPTS

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float = 0.0,
    ) -> None:
        super().__init__(check_number("augment: erasing: value", value, 0, 1))
        self.p = check_number("augment: erasing: p", p, 0, 1)
        self.scale = check_interval("augment: erasing: scale", scale, 0, 1)
        self.ratio = check_interval("augment: erasing: ratio", ratio, 0.01, 100)

    def parameters(self, context: TransformContext) -> Parameters:
        """Return top, left, height and width of the rectangles, int64 `(B,)` each; a size of 0 has no effect."""
        uniforms = context.uniforms
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        fraction = self.scale[0] + uniforms[:, 3 : 3 + ATTEMPTS] * (self.scale[1] - self.scale[0])
        ratio = (low + uniforms[:, 3 + ATTEMPTS :] * (high - low)).exp()
        area = fraction * (context.height * context.width)
        tall, wide = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = (tall < context.height) & (wide < context.width)
        first = fits.to(torch.uint8).argmax(1, keepdim=True)  # the first of equal values
        erase = (uniforms[:, 0] < self.p) & fits.any(1)
        height, width = (side.gather(1, first).squeeze(1) * erase for side in (tall, wide))
        top = (uniforms[:, 1] * (context.height - height + 1)).long()
        left = (uniforms[:, 2] * (context.width - width + 1)).long()
        return top, left, height.long(), width.long()


def rectangle_masks(parameters: Parameters, height: int, width: int) -> Tensor:
    """Return masks of the rectangles (top, left, height, width): bool `(B, 1, H, W)`."""
    rows, columns = _sides(parameters, height, width)
    return rows & columns


def _sides(parameters: Parameters, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return masks of the rows `(B, 1, H, 1)` and of the columns `(B, 1, 1, W)` of the rectangles."""
    top, left, tall, wide = map(to_4d, parameters)
    y = torch.arange(height, device=top.device).view(-1, 1)
    x = torch.arange(width, device=top.device)
    return (y >= top) & (y < top + tall), (x >= left) & (x < left + wide)

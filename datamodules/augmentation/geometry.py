"""Crop, flip, shift, rotation, perspective and resize for batches, with parameters per sample."""

import math

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.augmentation.transform import Parameters, Shape, Transform, TransformContext, integers, where_samples
from datamodules.checks import check_choice, check_integer, check_number


class Crop(Transform):
    """A random crop of the padded image, in the size of the original, as torchvision's RandomCrop with padding.

    The mode `zeros` pads with black. The mode `reflect` mirrors the image at its border pixels.
    """

    num_uniforms = 2
    exact = True

    def __init__(self, padding: int = 4, mode: str = "zeros") -> None:
        self.padding = check_integer("augment: crop: padding", padding)
        self.mode = check_choice("augment: crop: mode", mode, ("zeros", "reflect"))

    def check(self, shape: Shape) -> None:
        """Raise an error if the images are too small to be mirrored."""
        height, width = shape[1:]
        limit = min(height, width) - 1
        if self.mode == "reflect" and self.padding > limit:
            raise MisconfigurationException(
                f"augment: crop: padding={self.padding} with mode=reflect is too large for images of {height}x{width}. "
                f"Use at most {limit}, or mode=zeros."
            )

    def parameters(self, context: TransformContext) -> Parameters:
        """Return top and left of the crops in the padded images, int64 `(B,)` each."""
        return integers(context.uniforms, 2 * self.padding + 1).unbind(1)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Pad and crop."""
        top, left = parameters
        return crop_windows(pad(images, self.padding, self.mode), top, left, self.padding)


class Flip(Transform):
    """A horizontal flip with probability p.

    The mode `random` flips independently in each epoch, as torchvision's RandomHorizontalFlip. The mode `alternating`
    flips independently in the first epoch only, then changes the orientation every epoch (airbench, arXiv:2404.00498).
    """

    exact = True

    def __init__(self, p: float = 0.5, mode: str = "random") -> None:
        self.p = check_number("augment: flip: p", p, 0, 1)
        self.mode = check_choice("augment: flip: mode", mode, ("random", "alternating"))
        self.num_uniforms = int(self.mode == "random")

    def parameters(self, context: TransformContext) -> Parameters:
        """Return True for the samples to flip, bool `(B,)`."""
        if self.mode == "random":
            return (context.uniforms[:, 0] < self.p,)
        first = hash_samples(context.samples, context.run_seed) < int(self.p * 2**32)
        return (first if context.epoch % 2 == 0 else ~first,)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        return where_samples(parameters[0], images.flip(3), images)


class Shift(Transform):
    """A shift by an integer number of pixels, at most `size` in each direction; uncovered pixels become black.

    `size` is a number of pixels, or a fraction below 1 of height and width. As in torchvision's RandomAffine(0,
    translate), a random float is rounded, so the largest shifts are half as likely.
    """

    num_uniforms = 2
    exact = True

    def __init__(self, size: float = 2) -> None:
        self.size = check_number("augment: shift: size", size)
        if self.size >= 1:
            check_integer("augment: shift: size", int(size) if size == int(size) else size)

    def _limit(self, extent: int) -> float:
        return self.size if self.size >= 1 else self.size * extent

    def parameters(self, context: TransformContext) -> Parameters:
        """Return the shifts down and to the right in pixels, int64 `(B,)` each."""
        signed = context.uniforms * 2 - 1
        down, right = signed[:, 0] * self._limit(context.height), signed[:, 1] * self._limit(context.width)
        return down.round().long(), right.round().long()

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Pad and crop."""
        margin = math.ceil(max(self._limit(images.shape[2]), self._limit(images.shape[3])))
        down, right = parameters
        return crop_windows(pad(images, margin, "zeros"), margin - down, margin - right, margin)


class Rotation(Transform):
    """A rotation around the center by at most `degrees` in each direction; uncovered corners become black.

    It matches torchvision's RandomRotation with bilinear interpolation.
    """

    num_uniforms = 1

    def __init__(self, degrees: float = 15) -> None:
        self.degrees = check_number("augment: rotation: degrees", degrees, 0, 180)

    def parameters(self, context: TransformContext) -> Parameters:
        """Return counterclockwise angles in degrees, float32 `(B,)`."""
        return ((context.uniforms[:, 0] * 2 - 1) * self.degrees,)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        height, width = images.shape[2:]
        angle = parameters[0].deg2rad().view(-1, 1, 1)
        y = _centers(height, images).view(1, -1, 1) - height / 2
        x = _centers(width, images).view(1, 1, -1) - width / 2
        cos, sin = angle.cos(), angle.sin()
        grid = torch.stack([(cos * x - sin * y) * (2 / width), (sin * x + cos * y) * (2 / height)], dim=-1)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class Perspective(Transform):
    """A perspective distortion, with probability p, that moves the corners inward; uncovered pixels become black.

    Each corner moves by up to `distortion` times half the height and width. It matches torchvision's RandomPerspective
    with bilinear interpolation.
    """

    num_uniforms = 9

    def __init__(self, distortion: float = 0.5, p: float = 0.5) -> None:
        self.distortion = check_number("augment: perspective: distortion", distortion, 0, 1)
        self.p = check_number("augment: perspective: p", p, 0, 1)

    def parameters(self, context: TransformContext) -> Parameters:
        """Return True for the samples to distort, bool `(B,)`, and their new corners `(B, 4, 2)`.

        The corners are x and y, clockwise from the top left.
        """
        limits = [int(self.distortion * (extent // 2)) for extent in (context.width, context.height)]
        inward = context.uniforms[:, 1:].reshape(-1, 4, 2)
        x, y = (integers(inward[..., axis], limits[axis] + 1).float() for axis in (0, 1))
        right, bottom = context.width - 1, context.height - 1
        x = torch.stack([x[:, 0], right - x[:, 1], right - x[:, 2], x[:, 3]], dim=1)
        y = torch.stack([y[:, 0], y[:, 1], bottom - y[:, 2], bottom - y[:, 3]], dim=1)
        return context.uniforms[:, 0] < self.p, torch.stack([x, y], dim=2)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        condition, corners = parameters
        height, width = images.shape[2:]
        inverse = _from_quadrilateral(corners.to(images.dtype))
        y = _centers(height, images).view(1, -1, 1)
        x = _centers(width, images).view(1, 1, -1)
        across, down, scale = (
            row[:, 0] * x + row[:, 1] * y + row[:, 2] for row in inverse.view(-1, 3, 3, 1, 1).unbind(1)
        )
        grid = torch.stack([across / scale * (width - 1) / (width / 2), down / scale * (height - 1) / (height / 2)], -1)
        grid = (grid - 1).nan_to_num(nan=9.0).clamp(-9, 9)  # `scale` is 0 on the horizon, which is outside the image
        warped = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return where_samples(condition, warped, images)


class Resize(Transform):
    """Progressive resizing: smaller images in the first `epochs` epochs, for faster training (Howard, DAWNBench 2018).

    The shorter side becomes `size`. The network must accept images of any size, as LitSpeedNet and LitResNet do. The
    interpolation is bilinear with antialiasing, as in torchvision's Resize.
    """

    def __init__(self, size: int = 24, epochs: int = 1) -> None:
        self.size = check_integer("augment: resize: size", size, 4)
        self.epochs = check_integer("augment: resize: epochs", epochs, 0)

    def check(self, shape: Shape) -> None:
        """Raise an error if `size` would enlarge the images."""
        height, width = shape[1:]
        limit = min(height, width)
        if self.epochs and self.size > limit:
            raise MisconfigurationException(
                f"augment: resize: size={self.size} would enlarge images of {height}x{width}. Use at most {limit}."
            )

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape during the first `epochs` epochs."""
        channels, height, width = shape
        return (channels, *self._sides(height, width)) if self.epochs else shape

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        shorter = min(height, width)
        return round(height * self.size / shorter), round(width * self.size / shorter)

    def __call__(self, images: Tensor, context: TransformContext) -> Tensor:
        """Resize, unless the first `epochs` epochs are over."""
        if context.epoch >= self.epochs:
            return images
        size = self._sides(*images.shape[2:])
        return F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


def pad(images: Tensor, padding: int, mode: str) -> Tensor:
    """Return a contiguous tensor with `padding` pixels added on all four sides of the images, which have any dtype."""
    if mode == "zeros":
        return F.pad(images, (padding, padding, padding, padding)).contiguous()
    for axis in (2, 3):
        extent = images.shape[axis]
        position = torch.arange(-padding, extent + padding, device=images.device).abs()
        images = images.index_select(axis, extent - 1 - (extent - 1 - position).abs())
    return images


def crop_windows(padded: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """Return the crop of each image that starts at (top, left) and is `2 * padding` pixels smaller than the image."""
    count, channels, tall, wide = padded.shape
    starts = torch.arange(count, device=padded.device) * (channels * tall * wide) + top * wide + left
    height, width = tall - 2 * padding, wide - 2 * padding
    plane = torch.arange(channels, device=padded.device).view(-1, 1) * (tall * wide)
    offsets = plane + torch.arange(height, device=padded.device) * wide
    return gather_slices(padded, starts, offsets, width).view(count, channels, height, width)


def gather_slices(source: Tensor, starts: Tensor, offsets: Tensor, length: int) -> Tensor:
    """Return, in one gather, `length` elements of a contiguous tensor from each sum of a start and an offset."""
    sliding = source.as_strided((source.numel() - length + 1, length), (1, 1))
    return sliding.index_select(0, (starts.unsqueeze(1) + offsets.view(1, -1)).view(-1))


def hash_samples(samples: Tensor, seed: int) -> Tensor:
    """Return a hash of each sample number and the seed: int64 `(B,)` in 0..2^32-1, the same on every device."""
    mask = 0xFFFFFFFF
    value = (samples ^ (seed * 0x9E3779B1 & mask)) & mask
    for _ in range(2):
        value = ((value >> 16) ^ value) * 0x45D9F3B & mask
    return (value >> 16) ^ value


def _centers(extent: int, like: Tensor) -> Tensor:
    """Return the coordinates of the pixel centers along one axis."""
    return torch.arange(extent, dtype=like.dtype, device=like.device) + 0.5


def _from_quadrilateral(corners: Tensor) -> Tensor:
    """Return the projective maps `(B, 3, 3)`, up to a factor, from four corners to the unit square (Heckbert 1989)."""
    x, y = corners.unbind(2)
    (x0, x1, x2, x3), (y0, y1, y2, y3) = x.unbind(1), y.unbind(1)
    skew_x, skew_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    area = (x1 - x2) * (y3 - y2) - (x3 - x2) * (y1 - y2)
    g = (skew_x * (y3 - y2) - (x3 - x2) * skew_y) / area
    h = ((x1 - x2) * skew_y - skew_x * (y1 - y2)) / area
    rows = [x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0, g, h, torch.ones_like(g)]
    outward = torch.stack(rows, dim=1).view(-1, 3, 3)
    # Up to a factor, the inverse is the transposed matrix of the cross products of the rows.
    crossed: Tensor = torch.linalg.cross(outward.roll(-1, 1), outward.roll(-2, 1))
    return crossed.transpose(1, 2)

"""Crop, flip, shift, rotation and perspective of whole batches, each sample by its own amount."""

import math

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.augmentation.transform import (
    Draw,
    Parameters,
    Shape,
    Transform,
    integers,
    number,
    one_of,
    select,
    whole,
)


class Crop(Transform):
    """A window of the image's own size out of the image padded on all sides; all places are equally likely.

    As torchvision's RandomCrop with padding. Mode zeros pads with black, reflect mirrors at the border's pixels.
    """

    columns = 2
    exact = True

    def __init__(self, padding: int = 4, mode: str = "zeros") -> None:
        self.padding = whole("crop: padding", padding, 1)
        self.mode = one_of("crop: mode", mode, ("zeros", "reflect"))

    def check(self, shape: Shape) -> None:
        """There must be enough pixels to mirror."""
        height, width = shape[1:]
        most = min(height, width) - 1
        if self.mode == "reflect" and self.padding > most:
            raise MisconfigurationException(
                f"augment: crop: padding={self.padding} is not possible with mode=reflect and images of "
                f"{height}x{width}: give at most {most}, or mode=zeros."
            )

    def parameters(self, draw: Draw) -> Parameters:
        """The window's top and left in the padded image, int64 (B,) each."""
        place = integers(draw.uniforms, 2 * self.padding + 1)
        return place[:, 0], place[:, 1]

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Crop."""
        top, left = parameters
        return windows(pad(images, self.padding, self.mode), top, left, self.padding)


class Flip(Transform):
    """Mirror left and right.

    Mode random: each time with probability p, as torchvision's RandomHorizontalFlip. Mode alternating: a sample's
    first orientation is random (p), then it is the other one in every epoch (airbench, arXiv:2404.00498).
    """

    exact = True

    def __init__(self, p: float = 0.5, mode: str = "random") -> None:
        self.p = number("flip: p", p, 0, 1)
        self.mode = one_of("flip: mode", mode, ("random", "alternating"))
        self.columns = int(self.mode == "random")

    def parameters(self, draw: Draw) -> Parameters:
        """Whether to flip, bool (B,)."""
        if self.mode == "random":
            return (draw.uniforms[:, 0] < self.p,)
        first = hashed(draw.samples, draw.run_seed) < int(self.p * 2**32)
        return (first if draw.epoch % 2 == 0 else ~first,)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Flip."""
        return select(parameters[0], images.flip(3), images)


class Shift(Transform):
    """Move the image by whole pixels, at most `size` each way; what moves in is black.

    A whole number counts pixels, a fraction below 1 is a part of height and width. As torchvision's
    RandomAffine(0, translate), the amount is drawn from the range and rounded, so both ends come half as often.
    """

    columns = 2
    exact = True

    def __init__(self, size: float = 2) -> None:
        self.size = number("shift: size", size)
        if self.size >= 1:
            whole("shift: size", int(size) if size == int(size) else size, 1)

    def _most(self, extent: int) -> float:
        return self.size if self.size >= 1 else self.size * extent

    def parameters(self, draw: Draw) -> Parameters:
        """Pixels down and to the right, int64 (B,) each."""
        signed = draw.uniforms * 2 - 1
        down, right = signed[:, 0] * self._most(draw.height), signed[:, 1] * self._most(draw.width)
        return down.round().long(), right.round().long()

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Move."""
        margin = math.ceil(max(self._most(images.shape[2]), self._most(images.shape[3])))
        down, right = parameters
        return windows(pad(images, margin, "zeros"), margin - down, margin - right, margin)


class Rotation(Transform):
    """Turn about the centre by an angle of at most `degrees` each way, bilinear; the corners become black.

    As torchvision's RandomRotation with bilinear interpolation.
    """

    columns = 1

    def __init__(self, degrees: float = 15) -> None:
        self.degrees = number("rotation: degrees", degrees, 0, 180)

    def parameters(self, draw: Draw) -> Parameters:
        """The angle against the clock, in degrees, float32 (B,)."""
        return ((draw.uniforms[:, 0] * 2 - 1) * self.degrees,)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Turn."""
        height, width = images.shape[2:]
        angle = parameters[0].deg2rad().view(-1, 1, 1)
        y = _centres(height, images).view(1, -1, 1) - height / 2
        x = _centres(width, images).view(1, 1, -1) - width / 2
        cos, sin = angle.cos(), angle.sin()
        grid = torch.stack([(cos * x - sin * y) * (2 / width), (sin * x + cos * y) * (2 / height)], dim=-1)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class Perspective(Transform):
    """Move the corners inwards, each by up to `distortion` of half the image's size, bilinear; the rest is black.

    As torchvision's RandomPerspective.
    """

    columns = 9

    def __init__(self, distortion: float = 0.5, p: float = 0.5) -> None:
        self.distortion = number("perspective: distortion", distortion, 0, 1)
        self.p = number("perspective: p", p, 0, 1)

    def parameters(self, draw: Draw) -> Parameters:
        """Whether to, bool (B,); and where the corners go: (B, 4, 2), x and y from the top left with the clock."""
        most = [int(self.distortion * (extent // 2)) for extent in (draw.width, draw.height)]
        inward = draw.uniforms[:, 1:].reshape(-1, 4, 2)
        x, y = (integers(inward[..., axis], most[axis] + 1).float() for axis in (0, 1))
        right, bottom = draw.width - 1, draw.height - 1
        x = torch.stack([x[:, 0], right - x[:, 1], right - x[:, 2], x[:, 3]], dim=1)
        y = torch.stack([y[:, 0], y[:, 1], bottom - y[:, 2], bottom - y[:, 3]], dim=1)
        return draw.uniforms[:, 0] < self.p, torch.stack([x, y], dim=2)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Distort."""
        chosen, corners = parameters
        height, width = images.shape[2:]
        back = _from_quadrilateral(corners.to(images.dtype))
        y = _centres(height, images).view(1, -1, 1)
        x = _centres(width, images).view(1, 1, -1)
        across, down, scale = (row[:, 0] * x + row[:, 1] * y + row[:, 2] for row in back.view(-1, 3, 3, 1, 1).unbind(1))
        grid = torch.stack([across / scale * (width - 1) / (width / 2), down / scale * (height - 1) / (height / 2)], -1)
        grid = (grid - 1).nan_to_num(nan=9.0).clamp(-9, 9)  # pixels on the horizon, where `scale` is 0, lie outside
        warped = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return select(chosen, warped, images)


class Resize(Transform):
    """Smaller images in the first `epochs` epochs, which train a network of convolutions faster; later their own size.

    Progressive resizing (Howard 2018, in DAWNBench's entries): for networks that take images of any size, such as
    LitSpeedNet and LitResNet. Bilinear with antialiasing, as torchvision's Resize.
    """

    def __init__(self, size: int = 24, epochs: int = 1) -> None:
        self.size = whole("resize: size", size, 4)
        self.epochs = whole("resize: epochs", epochs, 0)

    def check(self, shape: Shape) -> None:
        """Images are not enlarged."""
        height, width = shape[1:]
        if self.epochs and self.size > min(height, width):
            raise MisconfigurationException(
                f"augment: resize: size={self.size} would enlarge images of {height}x{width}: "
                f"give at most {min(height, width)}."
            )

    def made_shape(self, shape: Shape) -> Shape:
        """That of the first epochs."""
        channels, height, width = shape
        return (channels, *self._sides(height, width)) if self.epochs else shape

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        shorter = min(height, width)
        return round(height * self.size / shorter), round(width * self.size / shorter)

    def parameters(self, draw: Draw) -> Parameters:
        """None."""
        return ()

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Shrink, the shorter side to `size`."""
        size = self._sides(*images.shape[2:])
        return F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        """Shrink while the run is young."""
        return self.apply(images, ()) if draw.epoch < self.epochs else images


def pad(images: Tensor, padding: int, mode: str) -> Tensor:
    """`padding` more pixels on all four sides, of any dtype, contiguous."""
    if mode == "zeros":
        return F.pad(images, (padding, padding, padding, padding)).contiguous()
    for axis in (2, 3):
        extent = images.shape[axis]
        place = torch.arange(-padding, extent + padding, device=images.device).abs()
        images = images.index_select(axis, extent - 1 - (extent - 1 - place).abs())
    return images


def windows(padded: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """The window of each image that begins at (top, left), `padding` smaller on each side."""
    count, channels, tall, wide = padded.shape
    starts = torch.arange(count, device=padded.device) * (channels * tall * wide) + top * wide + left
    height, width = tall - 2 * padding, wide - 2 * padding
    plane = torch.arange(channels, device=padded.device).view(-1, 1) * (tall * wide)
    offsets = plane + torch.arange(height, device=padded.device) * wide
    return pieces(padded, starts, offsets, width).view(count, channels, height, width)


def pieces(store: Tensor, starts: Tensor, offsets: Tensor, length: int) -> Tensor:
    """`length` elements of a contiguous store from each start plus each offset on: one gather of whole pieces."""
    sliding = store.as_strided((store.numel() - length + 1, length), (1, 1))
    return sliding.index_select(0, (starts.unsqueeze(1) + offsets.view(1, -1)).view(-1))


def hashed(samples: Tensor, seed: int) -> Tensor:
    """A number in 0..2^32-1 for each sample that depends on the seed: int64 (B,), on any device the same."""
    mask = 0xFFFFFFFF
    value = (samples ^ (seed * 0x9E3779B1 & mask)) & mask
    for _ in range(2):
        value = ((value >> 16) ^ value) * 0x45D9F3B & mask
    return (value >> 16) ^ value


def _centres(extent: int, like: Tensor) -> Tensor:
    return torch.arange(extent, dtype=like.dtype, device=like.device) + 0.5


def _from_quadrilateral(corners: Tensor) -> Tensor:
    """Projective maps (B, 3, 3), up to a factor, that take the four corners to those of the unit square (Heckbert)."""
    x, y = corners.unbind(2)
    (x0, x1, x2, x3), (y0, y1, y2, y3) = x.unbind(1), y.unbind(1)
    skew_x, skew_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    area = (x1 - x2) * (y3 - y2) - (x3 - x2) * (y1 - y2)
    g = (skew_x * (y3 - y2) - (x3 - x2) * skew_y) / area
    h = ((x1 - x2) * skew_y - skew_x * (y1 - y2)) / area
    rows = [x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0, g, h, torch.ones_like(g)]
    outward = torch.stack(rows, dim=1).view(-1, 3, 3)
    # The inverse is, up to a factor, the transposed matrix of the cross products of the rows.
    crossed: Tensor = torch.linalg.cross(outward.roll(-1, 1), outward.roll(-2, 1))
    return crossed.transpose(1, 2)

"""Colour jitter, greyscale, blur and noise of whole batches of floats in 0..1, each sample by its own amount."""

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.augmentation.transform import (
    Draw,
    Parameters,
    Shape,
    Transform,
    number,
    per_sample,
    select,
    span,
    whole,
)


class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue, in this order, by the maths of torchvision's ColorJitter.

    The first three by a factor from 1 - setting to 1 + setting, the hue by a part of the colour circle from -setting
    to setting. Grey images have neither saturation nor hue. torchvision also shuffles the order.
    """

    columns = 4

    def __init__(
        self, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2, hue: float = 0.2
    ) -> None:
        self.strengths = (
            number("color_jitter: brightness", brightness),
            number("color_jitter: contrast", contrast),
            number("color_jitter: saturation", saturation),
            number("color_jitter: hue", hue, 0, 0.5),
        )

    def parameters(self, draw: Draw) -> Parameters:
        """Factors of brightness, contrast and saturation, and the turn of the hue: float32 (B,) each."""
        ranges = [(max(0.0, 1 - strength), 1 + strength) for strength in self.strengths[:3]]
        ranges.append((-self.strengths[3], self.strengths[3]))
        return tuple(low + draw.uniforms[:, i] * (high - low) for i, (low, high) in enumerate(ranges))

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Change."""
        brightness, contrast, saturation = (per_sample(factor) for factor in parameters[:3])
        use = [strength > 0 for strength in self.strengths]
        if use[0]:
            images = (images * brightness).clamp_(0, 1)
        if use[1]:
            images = blend(images, grey(images).mean((1, 2, 3), keepdim=True), contrast)
        if use[2] and images.shape[1] == 3:
            images = blend(images, grey(images), saturation)
        if use[3] and images.shape[1] == 3:
            images = turn_hue(images, parameters[3])
        return images


class Greyscale(Transform):
    """Take the colour out with probability p, as torchvision's RandomGrayscale."""

    columns = 1

    def __init__(self, p: float = 0.1) -> None:
        self.p = number("greyscale: p", p, 0, 1)

    def parameters(self, draw: Draw) -> Parameters:
        """Whether to, bool (B,)."""
        return (draw.uniforms[:, 0] < self.p,)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Take it out; grey images are as they were."""
        return select(parameters[0], grey(images).expand_as(images), images)


class Blur(Transform):
    """A Gaussian blur whose standard deviation, in pixels, comes from the range `sigma`; torchvision's GaussianBlur."""

    columns = 1

    def __init__(self, kernel: int = 3, sigma: tuple[float, float] = (0.1, 2.0)) -> None:
        self.kernel = whole("blur: kernel", kernel, 3)
        if kernel % 2 == 0:
            raise MisconfigurationException(f"augment: blur: kernel={kernel} is not possible. Give an odd number.")
        self.sigma = span("blur: sigma", sigma, 0.01)

    def check(self, shape: Shape) -> None:
        """There must be enough pixels to mirror."""
        height, width = shape[1:]
        most = 2 * min(height, width) - 1
        if self.kernel > most:
            way_out = f"give at most {most}" if most >= 3 else "leave blur out"
            raise MisconfigurationException(
                f"augment: blur: kernel={self.kernel} is not possible with images of {height}x{width}: {way_out}."
            )

    def parameters(self, draw: Draw) -> Parameters:
        """The standard deviation, float32 (B,)."""
        low, high = self.sigma
        return (low + draw.uniforms[:, 0] * (high - low),)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Blur; beyond the border the image is mirrored."""
        margin = self.kernel // 2
        height, width = images.shape[2:]
        place = torch.arange(-margin, margin + 1, dtype=images.dtype, device=images.device)
        weights = (-0.5 * (place / parameters[0].unsqueeze(1)).square()).exp()
        weights = weights / weights.sum(1, keepdim=True)
        padded = F.pad(images, (margin, margin, margin, margin), mode="reflect")
        taps = [per_sample(weight) for weight in weights.unbind(1)]
        rows = sum((padded[:, :, i : i + height] * tap for i, tap in enumerate(taps)), start=torch.zeros_like(taps[0]))
        return sum((rows[..., i : i + width] * tap for i, tap in enumerate(taps)), start=torch.zeros_like(taps[0]))


class Noise(Transform):
    """Add Gaussian noise of this standard deviation to every pixel, then clip to 0..1; torchvision's GaussianNoise.

    Drawn for the batch of all ranks, on the device: the numbers are the same for every number of ranks, but differ
    between kinds of device.
    """

    whole_batch = True

    def __init__(self, std: float = 0.05) -> None:
        self.std = number("noise: std", std)

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        """Draw as many numbers as there are pixels."""
        generator = torch.Generator(images.device).manual_seed(draw.seed)
        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        return self.apply(images, (noise,))

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Add standard normal numbers of the images' shape."""
        return torch.add(images, parameters[0], alpha=self.std).clamp_(0, 1)


def grey(images: Tensor) -> Tensor:
    """(B, 1, H, W): the brightness that eyes see (ITU-R 601), or the mean of other than three channels."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    red, green, blue = images.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """`factor` times the images plus the rest of the other, in 0..1."""
    return (images * factor + (1 - factor) * other).clamp_(0, 1)


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of (B, 3, H, W) by a part of the colour circle, (B,)."""
    red, green, blue = images.unbind(1)
    most, least = images.amax(1), images.amin(1)
    spread = most - least
    divisor = spread + (spread == 0)
    to_red, to_green, to_blue = ((most - channel) / divisor for channel in (red, green, blue))
    is_red, is_green = most == red, most == green
    sixth = torch.where(is_red, to_blue - to_green, 4 + to_green - to_red)
    sixth = torch.where(is_green & ~is_red, 2 + to_red - to_blue, sixth)
    hue = ((sixth / 6 + 1) % 1 + turn.view(-1, 1, 1)) % 1
    # Each channel is the same curve of the hue, a third of the circle apart: level, fall, level, rise.
    shape = torch.tensor([5.0, 3.0, 1.0], device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    place = (shape + hue.unsqueeze(1) * 6) % 6
    drop = torch.minimum(place, 4 - place).clamp_(0, 1)
    return (most.unsqueeze(1) - spread.unsqueeze(1) * drop).clamp_(0, 1)

"""Color jitter, grayscale, blur and noise for batches of floats in 0..1, with parameters per sample."""

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.augmentation.transform import Parameters, Shape, Transform, TransformContext, to_4d, where_samples
from datamodules.checks import check_integer, check_interval, check_number


class ColorJitter(Transform):
    """Random brightness, contrast, saturation and hue, with the formulas of torchvision's ColorJitter.

    The first three are multiplied by a factor from 1 - value to 1 + value. The hue is shifted by a fraction of the
    color circle from -value to value. Saturation and hue of gray images do not change. The order is fixed, whereas
    torchvision shuffles it.
    """

    num_uniforms = 4

    def __init__(
        self, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2, hue: float = 0.2
    ) -> None:
        self.strengths = (
            check_number("augment: color_jitter: brightness", brightness),
            check_number("augment: color_jitter: contrast", contrast),
            check_number("augment: color_jitter: saturation", saturation),
            check_number("augment: color_jitter: hue", hue, 0, 0.5),
        )

    def parameters(self, context: TransformContext) -> Parameters:
        """Return the factors of brightness, contrast and saturation, and the hue shift: float32 `(B,)` each."""
        ranges = [(max(0.0, 1 - strength), 1 + strength) for strength in self.strengths[:3]]
        ranges.append((-self.strengths[3], self.strengths[3]))
        return tuple(low + context.uniforms[:, i] * (high - low) for i, (low, high) in enumerate(ranges))

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Change brightness, contrast, saturation and hue, in this order."""
        brightness, contrast, saturation = (to_4d(factor) for factor in parameters[:3])
        use = [strength > 0 for strength in self.strengths]
        if use[0]:
            images = (images * brightness).clamp_(0, 1)
        if use[1]:
            images = blend(images, to_gray(images).mean((1, 2, 3), keepdim=True), contrast)
        if use[2] and images.shape[1] == 3:
            images = blend(images, to_gray(images), saturation)
        if use[3] and images.shape[1] == 3:
            images = shift_hue(images, parameters[3])
        return images


class Grayscale(Transform):
    """A conversion to gray with probability p, as torchvision's RandomGrayscale."""

    num_uniforms = 1

    def __init__(self, p: float = 0.1) -> None:
        self.p = check_number("augment: grayscale: p", p, 0, 1)

    def parameters(self, context: TransformContext) -> Parameters:
        """Return True for the samples to convert, bool `(B,)`."""
        return (context.uniforms[:, 0] < self.p,)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        return where_samples(parameters[0], to_gray(images).expand_as(images), images)


class Blur(Transform):
    """A Gaussian blur with a standard deviation, in pixels, from the range `sigma`, as torchvision's GaussianBlur."""

    num_uniforms = 1

    def __init__(self, kernel: int = 3, sigma: tuple[float, float] = (0.1, 2.0)) -> None:
        self.kernel = check_integer("augment: blur: kernel", kernel, 3)
        if kernel % 2 == 0:
            raise MisconfigurationException(
                f"augment: blur: kernel must be odd, got {kernel}. Set kernel: {kernel + 1}."
            )
        self.sigma = check_interval("augment: blur: sigma", sigma, 0.01)

    def check(self, shape: Shape) -> None:
        """Raise an error if the images are too small to be mirrored."""
        height, width = shape[1:]
        limit = 2 * min(height, width) - 1
        if self.kernel > limit:
            fix = f"Use at most {limit}" if limit >= 3 else "Remove blur"
            raise MisconfigurationException(
                f"augment: blur: kernel={self.kernel} is too large for images of {height}x{width}. {fix}."
            )

    def parameters(self, context: TransformContext) -> Parameters:
        """Return the standard deviations, float32 `(B,)`."""
        low, high = self.sigma
        return (low + context.uniforms[:, 0] * (high - low),)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Blur; the border is mirrored."""
        margin = self.kernel // 2
        height, width = images.shape[2:]
        offset = torch.arange(-margin, margin + 1, dtype=images.dtype, device=images.device)
        weights = (-0.5 * (offset / parameters[0].unsqueeze(1)).square()).exp()
        weights = weights / weights.sum(1, keepdim=True)
        padded = F.pad(images, (margin, margin, margin, margin), mode="reflect")
        taps = [to_4d(weight) for weight in weights.unbind(1)]
        rows = sum((padded[:, :, i : i + height] * tap for i, tap in enumerate(taps)), start=torch.zeros_like(taps[0]))
        return sum((rows[..., i : i + width] * tap for i, tap in enumerate(taps)), start=torch.zeros_like(taps[0]))


class Noise(Transform):
    """Gaussian noise with the standard deviation `std` on every pixel, clipped to 0..1, as torchvision's GaussianNoise.

    It is generated on the device for the batch of all ranks. It is therefore the same for any number of ranks, but
    differs between device types.
    """

    full_batch = True

    def __init__(self, std: float = 0.05) -> None:
        self.std = check_number("augment: noise: std", std)

    def __call__(self, images: Tensor, context: TransformContext) -> Tensor:
        """Add a random number to every value."""
        generator = torch.Generator(images.device).manual_seed(context.seed)
        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        return torch.add(images, noise, alpha=self.std).clamp_(0, 1)


def to_gray(images: Tensor) -> Tensor:
    """Return `(B, 1, H, W)`: the luma of three channels (ITU-R 601), or the mean of any other number of channels."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    red, green, blue = images.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return `factor * images + (1 - factor) * other`, clipped to 0..1."""
    return (images * factor + (1 - factor) * other).clamp_(0, 1)


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Return images `(B, 3, H, W)` with the hue shifted by fractions `(B,)` of the color circle."""
    red, green, blue = images.unbind(1)
    most, least = images.amax(1), images.amin(1)
    spread = most - least
    divisor = spread + (spread == 0)
    to_red, to_green, to_blue = ((most - channel) / divisor for channel in (red, green, blue))
    is_red, is_green = most == red, most == green
    sixth = torch.where(is_red, to_blue - to_green, 4 + to_green - to_red)
    sixth = torch.where(is_green & ~is_red, 2 + to_red - to_blue, sixth)
    hue = ((sixth / 6 + 1) % 1 + shift.view(-1, 1, 1)) % 1
    # All channels are the same function of the hue (constant, falling, constant, rising), a third of the circle apart.
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    position = (offsets + hue.unsqueeze(1) * 6) % 6
    drop = torch.minimum(position, 4 - position).clamp_(0, 1)
    return (most.unsqueeze(1) - spread.unsqueeze(1) * drop).clamp_(0, 1)

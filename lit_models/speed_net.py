"""A small convolutional network for short trainings (arXiv:2404.00498), with its whitening filters."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lit_models.base.classifier import LitClassifier
from lit_models.base.shapes import image_shape, positive
from lit_models.parts.activations import build_activation
from lit_models.parts.small_image_conv import SideBySideConv2d
from lit_models.parts.specs import Spec


def whitening_filters(images: Tensor, kernel: int = 2, eps: float = 5e-4) -> Tensor:
    """Filters that turn the patches of `images` into uncorrelated numbers of equal spread, each with its negative.

    The directions are the eigenvectors of the patches' covariance, largest spread first, divided by the root of their
    variance (arXiv:2404.00498, section 3.2; first used so by tysam-code 2023). The negatives keep what an activation
    would cut off.

    Args:
        images: (N, channels, height, width), normalised as in training; about 2,000 are enough.
        kernel: side of the patches.
        eps: added to each variance, so that directions without content (noise) are not blown up.

    Returns:
        (2 * channels * kernel**2, channels, kernel, kernel), in float32.
    """
    if images.dim() != 4 or len(images) == 0:
        raise MisconfigurationException(
            f"images: shape {tuple(images.shape)} is not (N, channels, height, width), N > 0."
        )
    if kernel < 1 or kernel > min(images.shape[2:]):
        raise MisconfigurationException(f"kernel: {kernel} does not fit images of shape {tuple(images.shape[1:])}.")
    channels = images.shape[1]
    patches = images.float().unfold(2, kernel, 1).unfold(3, kernel, 1)
    rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * kernel * kernel)
    rows = rows - rows.mean(0)
    # In float64 on the CPU: the smallest variances are a millionth of the largest.
    covariance = ((rows.T @ rows) / len(rows)).double().cpu()
    variances, directions = torch.linalg.eigh(covariance)
    scaled = (directions / (variances.clamp(min=0.0) + eps).sqrt()).T.flip(0)
    filters = scaled.to(device=images.device, dtype=torch.float32).reshape(-1, channels, kernel, kernel)
    return torch.cat((filters, -filters))


class Halving(nn.Module):
    """Maximum of each 2x2 square; an axis of one pixel, which cannot be halved, stays."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        return nn.functional.max_pool2d(x, (min(2, height), min(2, width)))


class SpeedBlock(nn.Module):
    """conv-pool-BN-activation, which halves the image, then conv-BN-activation `depth - 1` times.

    Args:
        channels: of the input.
        width: filters of each convolution.
        depth: number of convolutions.
        residual: add what the first convolution gives to what the others make of it.
        activation: name or class path.
    """

    def __init__(
        self, channels: int, width: int, depth: int = 2, residual: bool = False, activation: Spec = "gelu"
    ) -> None:
        super().__init__()
        self.halve = nn.Sequential(
            _convolution(channels, width),
            Halving(),  # before the activation and the statistics, which then see a quarter of the values
            _norm(width),
            build_activation(activation),
        )
        layers: list[nn.Module] = []
        for index in range(depth - 1):
            if index > 0:
                layers.append(build_activation(activation))
            layers += [_convolution(width, width), _norm(width)]
        self.refine = nn.Sequential(*layers)
        self.activation = build_activation(activation) if depth > 1 else nn.Identity()
        self.residual = residual and depth > 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.halve(x)
        refined: Tensor = self.refine(x)
        output: Tensor = self.activation(x + refined if self.residual else refined)
        return output


class SpeedNet(nn.Module):
    """Whitening, blocks that halve the image, maximum over the image, one scaled linear layer: (B, C, H, W) -> (B, K).

    Images of any size from 8x8 on. Filters start as the identity on their first inputs (Dirac), norms have a bias only,
    and the first layer is not trained apart from its bias (arXiv:2404.00498). Call `whiten` with training images before
    the first step; without it the first layer keeps random orthogonal filters.

    Args:
        in_channels: colours of the images.
        out_features: number of logits.
        widths: filters of each block.
        depth: convolutions in each block.
        residual: let each block add its first convolution's output to its last one's.
        whitening_kernel: side of the first layer's patches.
        whitening_bias: give the first layer a bias, the only thing in it that is trained. Without it nothing has to be
            carried back to the largest images of the network, which saves about a tenth of a step.
        scale: factor on the logits.
        activation: name or class path.
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        widths: Sequence[int] = (64, 128, 256),
        depth: int = 2,
        residual: bool = False,
        whitening_kernel: int = 2,
        whitening_bias: bool = True,
        scale: float = 1 / 9,
        activation: Spec = "gelu",
    ) -> None:
        super().__init__()
        widths = positive("widths", widths)
        (depth,) = positive("depth", (depth,))
        (whitening_kernel,) = positive("whitening_kernel", (whitening_kernel,))
        if not widths:
            raise MisconfigurationException("widths: give at least one block, such as [64, 128, 256].")
        if scale <= 0.0:
            raise MisconfigurationException(f"scale: {scale} must be above 0.")
        self.scale = scale
        channels = 2 * in_channels * whitening_kernel**2
        self.whitening = nn.Conv2d(in_channels, channels, whitening_kernel, bias=whitening_bias)
        _start_whitening(self.whitening)
        layers: list[nn.Module] = [build_activation(activation)]
        for width in widths:
            layers.append(SpeedBlock(channels, width, depth, residual, activation))
            channels = width
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels, out_features, bias=False)

    @torch.no_grad()
    def whiten(self, images: Tensor, eps: float = 5e-4) -> None:
        """Set the first layer from normalised training images (N, channels, height, width)."""
        filters = whitening_filters(images, self.whitening.kernel_size[0], eps)
        if filters.shape != self.whitening.weight.shape:
            channels = self.whitening.in_channels
            raise MisconfigurationException(f"images: {images.shape[1]} channels, the network has {channels}.")
        self.whitening.weight.copy_(filters)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.whitening(x))
        output: Tensor = self.head(x.amax(dim=(2, 3))) * self.scale
        return output


def _convolution(channels: int, width: int) -> nn.Conv2d:
    """3x3 that keeps the image's size and first hands its inputs through; filters above `channels` start at random."""
    convolution = SideBySideConv2d(channels, width)
    with torch.no_grad():
        nn.init.dirac_(convolution.weight[: min(channels, width)])
    return convolution


def _norm(width: int) -> nn.BatchNorm2d:
    """BatchNorm that shifts but does not scale: the next filters' size does not matter either way."""
    norm = nn.BatchNorm2d(width)
    norm.weight.requires_grad_(False)
    return norm


def _start_whitening(convolution: nn.Conv2d) -> None:
    """Orthogonal filters with their negatives, no bias yet; frozen apart from the bias."""
    half = convolution.out_channels // 2
    with torch.no_grad():
        filters = torch.empty_like(convolution.weight[:half])
        nn.init.orthogonal_(filters)
        convolution.weight.copy_(torch.cat((filters, -filters)))
        if convolution.bias is not None:
            convolution.bias.zero_()
    convolution.weight.requires_grad_(False)


class LitSpeedNet(LitClassifier):
    """A `SpeedNet` that classifies images; before training its first layer is set from training images.

    Args:
        input_shape: from the data.
        num_classes: from the data.
        widths: filters of each block.
        depth: convolutions in each block.
        residual: let each block add its first convolution's output to its last one's.
        whitening_kernel: side of the first layer's patches.
        whitening_bias: train a bias of the first layer; without it a step takes about a tenth less.
        whitening_samples: training images, without augmentation, that the first layer is computed from; 0 leaves it
            random.
        scale: factor on the logits.
        activation: name or class path.
        init: "torch" keeps the network's own start, which is part of the recipe.
        **kwargs: see `LitClassifier`.
    """

    machine_kind = "conv"
    net: SpeedNet

    def __init__(
        self,
        input_shape: tuple[int, ...] | None = None,
        num_classes: int | None = None,
        widths: Sequence[int] = (64, 128, 256),
        depth: int = 2,
        residual: bool = False,
        whitening_kernel: int = 2,
        whitening_bias: bool = True,
        whitening_samples: int = 2000,
        scale: float = 1 / 9,
        activation: Spec = "gelu",
        init: Spec = "torch",
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape=input_shape, num_classes=num_classes, init=init, **kwargs)
        channels, height, width = image_shape(type(self).__name__, input_shape)
        if min(height, width) <= whitening_kernel:
            raise MisconfigurationException(
                f"whitening_kernel: {whitening_kernel} is too much for images of {height}x{width}; give a smaller one."
            )
        if whitening_samples < 0:
            raise MisconfigurationException(f"whitening_samples: {whitening_samples} is negative; give 0 or more.")
        self.whitening_samples = whitening_samples
        network = SpeedNet(
            channels, self.num_classes, widths, depth, residual, whitening_kernel, whitening_bias, scale, activation
        )
        self.initialised(network)
        self.net = network

    def setup(self, stage: str) -> None:
        """Whiten before a fit; weights from a checkpoint come later and replace it."""
        super().setup(stage)
        samples = getattr(getattr(self.trainer, "datamodule", None), "sample_inputs", None)
        if stage == "fit" and self.whitening_samples and samples is not None:
            self.net.whiten(samples(self.whitening_samples).to(self.net.whitening.weight.device))

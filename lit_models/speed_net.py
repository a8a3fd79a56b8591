"""Small convolutional network for short runs (arXiv:2404.00498), with whitening filters."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lit_models.base.classifier import LitClassifier
from lit_models.base.shapes import image_shape, positive_integer, positive_integers
from lit_models.parts.activations import build_activation
from lit_models.parts.small_image_conv import SmallImageConv2d
from lit_models.parts.specs import Spec


def whitening_filters(images: Tensor, kernel: int = 2, eps: float = 5e-4) -> Tensor:
    """Return filters whose responses to patches of `images` are uncorrelated with variance 1, and their negatives.

    The filters are eigenvectors of the patches' covariance, largest variance first, divided by their standard deviation
    (arXiv:2404.00498, section 3.2, after tysam-code 2023). The negatives preserve values that an activation sets to 0.

    Args:
        images: `(N, channels, height, width)`, normalized as in training; about 2,000 are enough.
        kernel: height and width of the patches.
        eps: added to each variance, so that noise is not amplified.

    Returns:
        Filters `(2 * channels * kernel**2, channels, kernel, kernel)` in float32.
    """
    if images.dim() != 4 or len(images) == 0:
        raise MisconfigurationException(
            f"images must have the shape (N, channels, height, width) with N > 0, got {tuple(images.shape)}. "
            "Return such images from sample_inputs of the data."
        )
    if kernel < 1 or kernel > min(images.shape[2:]):
        raise MisconfigurationException(
            f"kernel must be from 1 to the size of the images {tuple(images.shape[1:])}, got {kernel}. "
            "Set --model.whitening_kernel 2."
        )
    channels = images.shape[1]
    patches = images.float().unfold(2, kernel, 1).unfold(3, kernel, 1)
    rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * kernel * kernel)
    rows = rows - rows.mean(0)
    # Use float64 on the CPU, because the smallest variances are a millionth of the largest.
    covariance = ((rows.T @ rows) / len(rows)).double().cpu()
    variances, directions = torch.linalg.eigh(covariance)
    scaled = (directions / (variances.clamp(min=0.0) + eps).sqrt()).T.flip(0)
    filters = scaled.to(device=images.device, dtype=torch.float32).reshape(-1, channels, kernel, kernel)
    return torch.cat((filters, -filters))


class Halving(nn.Module):
    """Maximum of each 2x2 square; an axis of one pixel does not change."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        return nn.functional.max_pool2d(x, (min(2, height), min(2, width)))


class SpeedBlock(nn.Module):
    """Convolution, pooling, BatchNorm and activation, then convolution, BatchNorm and activation `depth - 1` times.

    Pooling halves height and width. With `residual`, the last activation also gets the output of the first one.
    """

    def __init__(
        self, channels: int, width: int, depth: int = 2, residual: bool = False, activation: Spec = "gelu"
    ) -> None:
        super().__init__()
        self.halve = nn.Sequential(
            _convolution(channels, width),
            Halving(),  # before the other layers, so that they process a quarter of the values
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
    """Whitening, blocks that halve the image, maximum over pixels and linear layer, `(B, C, H, W)` -> `(B, K)`.

    The architecture is airbench's (arXiv:2404.00498), for images of 8x8 pixels or more. Filters start as the identity
    of their first inputs (Dirac). BatchNorm trains only its bias, and so does the first layer. Call `whiten` before the
    first step, else the first layer has random orthogonal filters. For the arguments see `LitSpeedNet`.

    >>> SpeedNet(3, 10, widths=(8, 8, 8))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
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
        widths = positive_integers("widths", widths)
        positive_integer("depth", depth)
        positive_integer("whitening_kernel", whitening_kernel)
        if not widths:
            raise MisconfigurationException("widths must not be empty, got []. Set --model.widths '[64, 128, 256]'.")
        if scale <= 0.0:
            raise MisconfigurationException(f"scale must be above 0, got {scale}. Set --model.scale 0.1.")
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
        """Compute the first layer's filters from normalized training images `(N, channels, height, width)`."""
        filters = whitening_filters(images, self.whitening.kernel_size[0], eps)
        if filters.shape != self.whitening.weight.shape:
            channels = self.whitening.in_channels
            raise MisconfigurationException(
                f"images must have {channels} channels, got {images.shape[1]}. Pass images of the training data."
            )
        self.whitening.weight.copy_(filters)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.whitening(x))
        output: Tensor = self.head(x.amax(dim=(2, 3))) * self.scale
        return output


def _convolution(channels: int, width: int) -> nn.Conv2d:
    """Return a 3x3 convolution that starts as the identity; filters beyond the number of inputs are random."""
    convolution = SmallImageConv2d(channels, width)
    with torch.no_grad():
        nn.init.dirac_(convolution.weight[: min(channels, width)])
    return convolution


def _norm(width: int) -> nn.BatchNorm2d:
    """Return BatchNorm with a trained bias and a fixed scale, to which the network is insensitive."""
    norm = nn.BatchNorm2d(width)
    norm.weight.requires_grad_(False)
    return norm


def _start_whitening(convolution: nn.Conv2d) -> None:
    """Set random orthogonal filters and their negatives, and a bias of 0; freeze the filters."""
    weight = convolution.weight.requires_grad_(False)
    filters = nn.init.orthogonal_(torch.empty_like(weight[: len(weight) // 2]))
    weight.copy_(torch.cat((filters, -filters)))
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


class LitSpeedNet(LitClassifier):
    """`SpeedNet` that classifies images; its first layer is computed from training images before training.

    Args:
        input_shape: from the data.
        num_classes: from the data.
        widths: filters of each block.
        depth: convolutions in each block.
        residual: add the output of a block's first activation to the input of its last one.
        whitening_kernel: height and width of the first layer's filters.
        whitening_bias: train a bias of the first layer. Without it, a step takes about 10% less time, because the
            largest images need no gradient.
        whitening_samples: number of training images without augmentation that set the first layer; 0 leaves it random.
        scale: factor of the logits.
        activation: name or class path.
        init: "torch" keeps the network's own initialization, which is part of the method.
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
                f"whitening_kernel must be smaller than the images of {height}x{width} pixels, got {whitening_kernel}. "
                "Set --model.whitening_kernel 2."
            )
        if whitening_samples < 0:
            raise MisconfigurationException(
                f"whitening_samples must be at least 0, got {whitening_samples}. Set --model.whitening_samples 2000."
            )
        self.whitening_samples = whitening_samples
        self.net = SpeedNet(
            channels, self.num_classes, widths, depth, residual, whitening_kernel, whitening_bias, scale, activation
        )
        self.initialized(self.net, fresh=True)

    def setup(self, stage: str) -> None:
        """Compute the first layer before a fit; the weights of a checkpoint replace it later."""
        super().setup(stage)
        samples = getattr(getattr(self.trainer, "datamodule", None), "sample_inputs", None)
        if stage == "fit" and self.whitening_samples and samples is not None:
            self.net.whiten(samples(self.whitening_samples).to(self.net.whitening.weight.device))

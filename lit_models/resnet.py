"""Residual networks (arXiv:1512.03385)."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lit_models.base.classifier import LitClassifier
from lit_models.base.shapes import check_choice, image_shape, positive_integers
from lit_models.parts.activations import build_activation
from lit_models.parts.specs import Spec

Preset = Literal["small", "resnet14", "resnet18"]
Stem = Literal["small", "large"]

#: filters and number of residual blocks of each stage
PRESETS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = MappingProxyType(
    {
        "small": ((32, 64, 128), (1, 1, 1)),  # 0.3 M parameters
        "resnet14": ((64, 128, 256), (2, 2, 2)),  # 2.8 M
        "resnet18": ((64, 128, 256, 512), (2, 2, 2, 2)),  # 11.2 M
    }
)


class ResidualBlock(nn.Module):
    """Convolution, BatchNorm, activation, convolution and BatchNorm, added to the input, then an activation.

    A 1x1 convolution adapts the input if stride or width change.
    """

    def __init__(self, channels: int, width: int, stride: int = 1, activation: Spec = "relu") -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            build_activation(activation),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.activation = build_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return output


class ResNet(nn.Module):
    """Stem, stages of residual blocks, mean over the pixels and a linear layer, `(B, C, H, W)` -> `(B, out_features)`.

    Every stage after the first halves height and width.

    >>> ResNet(3, 10, widths=(8, 16), blocks=(1, 1))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        widths: Sequence[int] = (32, 64, 128),
        blocks: Sequence[int] = (1, 1, 1),
        stem: Stem = "small",
        activation: Spec = "relu",
    ) -> None:
        super().__init__()
        widths, blocks = positive_integers("widths", widths), positive_integers("blocks", blocks)
        if len(widths) != len(blocks) or not widths:
            raise MisconfigurationException(
                f"blocks must have one number per stage in widths {list(widths)}, got {list(blocks)}. "
                "Set --model.blocks and --model.widths to lists of equal length."
            )
        self.stem = _stem(stem, in_channels, widths[0], activation)
        channels = widths[0]
        stages: list[nn.Module] = []
        for index, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            first = ResidualBlock(channels, width, 1 if index == 0 else 2, activation)
            rest = [ResidualBlock(width, width, 1, activation) for _ in range(count - 1)]
            stages.append(nn.Sequential(first, *rest))
            channels = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, out_features)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.stages(self.stem(x)).mean(dim=(2, 3)))
        return output


def _stem(stem: str, channels: int, width: int, activation: Spec) -> nn.Sequential:
    check_choice("stem", stem, ("small", "large"))
    kernel, stride = (3, 1) if stem == "small" else (7, 2)
    convolution = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
    layers: list[nn.Module] = [convolution, nn.BatchNorm2d(width), build_activation(activation)]
    if stem == "large":
        layers.append(nn.MaxPool2d(3, 2, padding=1))
    return nn.Sequential(*layers)


class LitResNet(LitClassifier):
    """`ResNet` that classifies images.

    Args:
        input_shape: from the data.
        num_classes: from the data.
        preset: small (32-64-128 filters, one block each), resnet14 (64-128-256, two each) or resnet18 (64-128-256-512).
        widths: filters of each stage; None means those of the preset.
        blocks: residual blocks of each stage; None means those of the preset.
        stem: small (3x3) or large (7x7 with stride 2 and max pooling); None means large for more than 64 pixels.
        activation: name or class path.
        **kwargs: see `LitClassifier`.
    """

    machine_kind = "conv"

    def __init__(
        self,
        input_shape: tuple[int, ...] | None = None,
        num_classes: int | None = None,
        preset: Preset = "small",
        widths: Sequence[int] | None = None,
        blocks: Sequence[int] | None = None,
        stem: Stem | None = None,
        activation: Spec = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape=input_shape, num_classes=num_classes, **kwargs)
        channels, height, width = image_shape(type(self).__name__, input_shape)
        check_choice("preset", preset, PRESETS)
        widths = PRESETS[preset][0] if widths is None else widths
        blocks = PRESETS[preset][1] if blocks is None else blocks
        if stem is None:
            stem = "large" if max(height, width) > 64 else "small"
        self.net = self.initialized(ResNet(channels, self.num_classes, widths, blocks, stem, activation), fresh=True)

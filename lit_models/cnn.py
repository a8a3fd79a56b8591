"""Small convolutional networks in five variants."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor, nn

from lit_models.base.classifier import LitClassifier
from lit_models.base.shapes import check_choice, dropout_rate, image_shape, output_size, positive_integers
from lit_models.mlp import fully_connected
from lit_models.parts.activations import build_activation
from lit_models.parts.specs import Spec

Variant = Literal["two_conv", "three_conv", "batchnorm", "lenet5", "alexnet"]


@dataclass(frozen=True)
class Architecture:
    """Sizes of a variant: filters of each convolution, units of each hidden layer, dropout rate after hidden layers."""

    widths: tuple[int, ...]
    hidden: tuple[int, ...]
    dropout: float
    batch_norm: bool = False
    kernel: int = 3
    padding: int = 1
    #: indices of the convolutions, from 0, that pooling follows; None means all
    pooled: tuple[int, ...] | None = None
    pool: Callable[[int], nn.Module] = nn.MaxPool2d


VARIANTS: Mapping[str, Architecture] = MappingProxyType(
    {
        "two_conv": Architecture(widths=(16, 32), hidden=(), dropout=0.0),
        "three_conv": Architecture(widths=(32, 64, 128), hidden=(256,), dropout=0.5),
        "batchnorm": Architecture(widths=(32, 64, 128), hidden=(256,), dropout=0.5, batch_norm=True, padding=0),
        # LeCun et al. 1998; its 5x5 filters need 32 pixels, so smaller images are padded.
        "lenet5": Architecture(widths=(6, 16), hidden=(120, 84), dropout=0.0, kernel=5, padding=0, pool=nn.AvgPool2d),
        # Krizhevsky et al. 2012 with 3x3 filters of stride 1, for images of 16 to 64 pixels.
        "alexnet": Architecture(widths=(64, 192, 384, 256, 256), hidden=(1024, 1024), dropout=0.5, pooled=(0, 1, 4)),
    }
)


class CNN(nn.Module):
    """Convolutions, then fully connected layers, `(B, channels, height, width)` -> `(B, out_features)`.

    For the arguments see `LitCNN`.

    >>> CNN((1, 28, 28), 10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        out_features: int,
        variant: Variant = "two_conv",
        widths: Sequence[int] | None = None,
        hidden: Sequence[int] | None = None,
        dropout: float | None = None,
        activation: Spec = "relu",
    ) -> None:
        super().__init__()
        check_choice("variant", variant, VARIANTS)
        arch = VARIANTS[variant]
        arch = replace(
            arch,
            widths=arch.widths if widths is None else positive_integers("widths", widths),
            hidden=arch.hidden if hidden is None else positive_integers("hidden", hidden),
            dropout=dropout_rate(arch.dropout if dropout is None else dropout),
        )
        channels, height, width = input_shape
        enlarge = 2 if variant == "lenet5" and min(height, width) < 32 else 0
        self.features = _features(arch, channels, enlarge, activation)
        size = output_size(self.features, input_shape, f"variant {variant!r}")
        self.head = fully_connected(size, arch.hidden, out_features, activation, dropout=arch.dropout)
        if arch.dropout > 0 and not arch.hidden:
            self.head = nn.Sequential(nn.Dropout(arch.dropout), *self.head)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.features(x).flatten(1))
        return output


def _features(arch: Architecture, channels: int, enlarge: int, activation: Spec) -> nn.Sequential:
    layers: list[nn.Module] = []
    pooled = range(len(arch.widths)) if arch.pooled is None else arch.pooled
    for index, width in enumerate(arch.widths):
        padding = arch.padding + (enlarge if index == 0 else 0)
        layers.append(nn.Conv2d(channels, width, arch.kernel, padding=padding, bias=not arch.batch_norm))
        if arch.batch_norm:
            layers.append(nn.BatchNorm2d(width))
        layers.append(build_activation(activation))
        if index in pooled:
            layers.append(arch.pool(2))
        channels = width
    return nn.Sequential(*layers)


class LitCNN(LitClassifier):
    """`CNN` that classifies images.

    Args:
        input_shape: from the data.
        num_classes: from the data.
        variant: two_conv, three_conv, batchnorm (unpadded, for 32 pixels), lenet5 or alexnet (for 28 to 64 pixels).
        widths: filters of each convolution; None means those of the variant.
        hidden: units of each hidden linear layer; None means those of the variant.
        dropout: dropout rate after each hidden layer; None means that of the variant.
        activation: name or class path.
        **kwargs: see `LitClassifier`.
    """

    machine_kind = "conv"

    def __init__(
        self,
        input_shape: tuple[int, ...] | None = None,
        num_classes: int | None = None,
        variant: Variant = "two_conv",
        widths: Sequence[int] | None = None,
        hidden: Sequence[int] | None = None,
        dropout: float | None = None,
        activation: Spec = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape=input_shape, num_classes=num_classes, **kwargs)
        shape = image_shape(type(self).__name__, input_shape)
        network = CNN(shape, self.num_classes, variant, widths, hidden, dropout, activation)
        self.net = self.initialized(network, fresh=True)

"""Multilayer perceptrons for classes and for numbers."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from lit_models.base.classifier import LitClassifier
from lit_models.base.regressor import LitRegressor
from lit_models.base.shapes import dropout_rate, positive_integers, sample_shape
from lit_models.parts.activations import build_activation
from lit_models.parts.specs import Spec


def fully_connected(
    width: int,
    hidden: Sequence[int],
    out_features: int,
    activation: Spec,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Return hidden layers and a linear output layer.

    A hidden layer consists of a linear layer, optional BatchNorm, activation and optional dropout.
    """
    layers: list[nn.Module] = []
    for units in hidden:
        layers.append(nn.Linear(width, units, bias=not batch_norm))  # BatchNorm would subtract a bias with the mean
        if batch_norm:
            layers.append(nn.BatchNorm1d(units))
        layers.append(build_activation(activation))
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        width = units
    return nn.Sequential(*layers, nn.Linear(width, out_features))


class MLP(nn.Module):
    """Fully connected network, `(B, *input_shape)` -> `(B, out_features)`; see `fully_connected`.

    >>> MLP((1, 28, 28), 10, hidden=(32,))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        out_features: int,
        hidden: Sequence[int] = (512, 512),
        activation: Spec = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden, dropout = positive_integers("hidden", hidden), dropout_rate(dropout)
        self.layers = fully_connected(math.prod(input_shape), hidden, out_features, activation, batch_norm, dropout)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layers(x.flatten(1))
        return output


class LitMLP(LitClassifier):
    """`MLP` that classifies.

    Args:
        input_shape: from the data.
        num_classes: from the data.
        hidden: units of each hidden layer.
        activation: name or class path.
        batch_norm: add BatchNorm after each hidden linear layer.
        dropout: dropout rate after each hidden activation.
        **kwargs: see `LitClassifier`.
    """

    counterpart = "LitMLPRegressor"

    def __init__(
        self,
        input_shape: tuple[int, ...] | None = None,
        num_classes: int | None = None,
        hidden: Sequence[int] = (512, 512),
        activation: Spec = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape=input_shape, num_classes=num_classes, **kwargs)
        shape = sample_shape(type(self).__name__, input_shape)
        self.net = self.initialized(MLP(shape, self.num_classes, hidden, activation, batch_norm, dropout), fresh=True)


class LitMLPRegressor(LitRegressor):
    """`MLP` that predicts numbers.

    Args:
        input_shape: from the data.
        num_targets: from the data.
        hidden: units of each hidden layer.
        activation: name or class path.
        batch_norm: add BatchNorm after each hidden linear layer.
        dropout: dropout rate after each hidden activation.
        **kwargs: see `LitRegressor`.
    """

    counterpart = "LitMLP"

    def __init__(
        self,
        input_shape: tuple[int, ...] | None = None,
        num_targets: int | None = None,
        hidden: Sequence[int] = (32, 32),
        activation: Spec = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape=input_shape, num_targets=num_targets, **kwargs)
        shape = sample_shape(type(self).__name__, input_shape)
        self.net = self.initialized(MLP(shape, self.num_targets, hidden, activation, batch_norm, dropout), fresh=True)

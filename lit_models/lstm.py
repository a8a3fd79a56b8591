"""LSTM that classifies sequences, or images as sequences of rows."""

from collections.abc import Sequence
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lit_models.base.classifier import LitClassifier
from lit_models.base.shapes import dropout_rate, positive_integer, sample_shape


def check_dropout(dropout: float, layers: int) -> float:
    """Return the dropout rate between layers; raise an error if there is one layer and it has no effect."""
    positive_integer("layers", layers)
    if dropout > 0 and layers == 1:
        raise MisconfigurationException(
            f"dropout must be 0 with 1 layer, got {dropout}. Set --model.layers 2; dropout applies between layers."
        )
    return dropout_rate(dropout)


class RowLSTM(nn.Module):
    """LSTM and a linear layer on its last output, `(B, steps, features)` or `(B, C, H, W)` -> `(B, out_features)`.

    An image is a sequence of H rows with C * W features each.

    >>> RowLSTM((1, 28, 28), 10, hidden=16)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, input_shape: Sequence[int], out_features: int, hidden: int = 128, layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        positive_integer("hidden", hidden)
        features = input_shape[1] if len(input_shape) == 2 else input_shape[0] * input_shape[2]
        dropout = check_dropout(dropout, layers)
        self.lstm = nn.LSTM(features, hidden, layers, batch_first=True, dropout=dropout)
        self.head = nn.Linear(hidden, out_features)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4:
            x = x.transpose(1, 2).flatten(2)
        states, _ = self.lstm(x)
        output: Tensor = self.head(states[:, -1])
        return output


class LitLSTM(LitClassifier):
    """`RowLSTM` that classifies images or sequences.

    Args:
        input_shape: from the data: (channels, height, width) or (steps, features).
        num_classes: from the data.
        hidden: size of the state.
        layers: number of LSTM layers.
        dropout: dropout rate between the layers.
        **kwargs: see `LitClassifier`.
    """

    machine_kind = "recurrent"

    def __init__(
        self,
        input_shape: tuple[int, ...] | None = None,
        num_classes: int | None = None,
        hidden: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape=input_shape, num_classes=num_classes, **kwargs)
        name = type(self).__name__
        shape = sample_shape(name, input_shape)
        if len(shape) not in (2, 3):
            raise MisconfigurationException(
                f"model: {name} needs images (channels, height, width) or sequences (steps, features), got samples of "
                f"shape {shape}. Use such data, or a model such as LitMLP, which takes any shape."
            )
        self.net = self.initialized(RowLSTM(shape, self.num_classes, hidden, layers, dropout), fresh=True)

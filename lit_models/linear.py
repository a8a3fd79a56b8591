"""Linear regression."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from lit_models.base.regressor import LitRegressor
from lit_models.base.shapes import sample_shape


class LinearRegression(nn.Module):
    """Affine map of the flattened sample, `(B, *input_shape)` -> `(B, out_features)`.

    >>> LinearRegression((3,), 1)(torch.zeros(2, 3)).shape
    torch.Size([2, 1])
    """

    def __init__(self, input_shape: Sequence[int], out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(math.prod(input_shape), out_features)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.linear(x.flatten(1))
        return output


class LitLinearRegression(LitRegressor):
    """Least squares by gradient descent; the optimizer `lbfgs` with all data in one batch finds the exact solution.

    Args:
        input_shape: from the data.
        num_targets: from the data.
        **kwargs: see `LitRegressor`.
    """

    def __init__(
        self, input_shape: tuple[int, ...] | None = None, num_targets: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(input_shape=input_shape, num_targets=num_targets, **kwargs)
        self.net = self.initialized(
            LinearRegression(sample_shape(type(self).__name__, input_shape), self.num_targets), fresh=True
        )

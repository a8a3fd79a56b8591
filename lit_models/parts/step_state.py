"""State of the training step between its calls."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


class StepState:
    """Attributes that a training step sets or reads.

    This is not an `nn.Module`, whose attributes take 1 µs to set, as long as adding two small tensors. `weight` returns
    the weight of a batch in its optimizer step; None means 1.
    """

    def __init__(self, weight: Callable[[int], float] | None = None) -> None:
        self.counted = -1  # index of the newest batch in the metrics
        self.last: Any = None  # with `steps_per_call`: the last of several batches,
        self.logged: Tensor | None = None  # and the newest loss that was logged for those before it
        self.divisor: Tensor | None = None  # what the newest loss was divided by, if not by the number of samples
        self.total: Tensor | None = None  # sum of the divisors since the last optimizer step
        self._weight = weight

    def take(self, batch: Any) -> Any:
        """Return the batch to train on, and remove the reference to the last of several batches."""
        if self.last is not None:
            batch, self.last = self.last, None
        return batch

    def is_new(self, batch_idx: int) -> bool:
        """Return True at the first evaluation of a batch; LBFGS evaluates each batch many times."""
        new = batch_idx != self.counted
        self.counted = batch_idx
        return new

    def weighted(self, objective: Tensor, batch_idx: int) -> Tensor:
        """Return the objective times the weight of its batch; a weight of 1 costs no multiplication."""
        weight = 1.0 if self._weight is None else self._weight(batch_idx)
        return objective if weight == 1.0 else objective * weight

    def summed(self, objective: Tensor, divisor: Tensor) -> Tensor:
        """Return the objective times the divisor of its loss, and add the divisor to the total of the step."""
        self.total = divisor if self.total is None else self.total + divisor
        return (objective * divisor).where(divisor > 0, 0.0)

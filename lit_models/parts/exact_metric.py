"""Base classes of metrics: exact sums, and a reason for each value that is not defined."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class ExactMetric(Metric):
    """Metric with sums in float64, also in a model of lower precision; in float32 on devices without float64 (MPS)."""

    full_state_update = False

    def reset(self) -> None:
        """Clear the sums, and give them the exact type again: a Trainer in bf16-true converts them with the model."""
        super().reset()
        self.set_dtype(exact_type(self.device))

    def remark(self, names: Sequence[str]) -> str:
        """Return which part of the computed value is not defined, and why; empty if all of it is.

        `names` are the class names, or empty.
        """
        return ""


class Mean(ExactMetric):
    """Mean over samples, or over their weights.

    torchmetrics' MeanMetric looks for NaN in every batch, which blocks a GPU and takes twice the time on a CPU.
    """

    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, total: Tensor, samples: int | Tensor) -> None:
        """Add a sum over `samples` samples, or over samples with this sum of weights."""
        self.total += total
        self.count = self.count + samples  # weights make a float of it

    def compute(self) -> Tensor:
        self.counted = self.count  # over all ranks
        return self.total / self.count

    def remark(self, names: Sequence[str]) -> str:
        return "" if self.counted > 0 else "not defined, because no sample has a weight above 0"


def exact_type(device: torch.device) -> torch.dtype:
    """Return the most precise floating-point type of the device."""
    return torch.float32 if device.type == "mps" else torch.float64


def exact(values: Tensor) -> Tensor:
    """Return the values in the most precise floating-point type of their device."""
    return values.to(exact_type(values.device))

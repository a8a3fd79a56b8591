"""Base class of models that predict numbers."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from lit_models.base.task import LitTask
from lit_models.parts.losses import CLASS_LOSSES, NUMBER_LOSSES
from lit_models.parts.metrics import NUMBER_METRICS
from lit_models.parts.specs import Spec
from lit_models.parts.stage_metrics import StageMetrics


class LitRegressor(LitTask):
    """Model that predicts `num_targets` numbers `(B, num_targets)`.

    Args:
        num_targets: from the data.
        loss: mse, l1, smooth_l1, huber, or a class path that takes (prediction, target).
        metrics: any of mae, mse, r2.
        **kwargs: see `LitTask`.
    """

    known_losses = NUMBER_LOSSES
    other_losses = CLASS_LOSSES
    known_metrics = NUMBER_METRICS
    exact = True
    target_property = "num_targets"
    counterpart = "LitMLP or LitLogisticRegression"

    def __init__(
        self,
        input_shape: Sequence[int] | None = None,
        num_targets: int | None = None,
        loss: Spec = "mse",
        metrics: Sequence[str] = ("mae", "r2"),
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape=input_shape, loss=loss, metrics=metrics, **kwargs)
        self.num_targets = self._checked_size(num_targets, 1)
        self._prepare_metrics(metrics, self.num_targets)

    def typed_target(self, y: Tensor) -> Tensor:
        return y if y.dtype == self.dtype else y.to(self.dtype)

    def outputs(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        output = self(x)
        if output.shape != y.shape:  # the loss would broadcast (B, 1) and (B,) to (B, B), and the model learn the mean
            raise MisconfigurationException(
                f"targets of {type(self).__name__} must have the shape of its output {tuple(output.shape)}, got "
                f"{tuple(y.shape)}. Return targets of shape (batch, {self.num_targets}) from the data."
            )
        return output, y

    def observe(self, metrics: StageMetrics, output: Tensor, target: Tensor) -> None:
        if metrics.labels is not None:
            metrics.labels.update(output, target)

    def predicted(self, output: Tensor, target: Tensor | None) -> dict[str, Tensor]:
        result = {"prediction": output.to(torch.promote_types(output.dtype, torch.float32))}
        return result if target is None else {"target": target, **result}

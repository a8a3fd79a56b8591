"""What a model has measured in the epoch that is running, as a part of checkpoints within it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lit_models.parts.metrics import StageMetrics


class EpochState(ABC):
    """Stands among the bases of a task; the callback that makes checkpoints exact asks for the state."""

    train_metrics: StageMetrics
    _val_loss: Tensor | None

    @abstractmethod
    def observe(self, metrics: StageMetrics, output: Tensor, target: Tensor) -> None:
        """Count outputs, of one batch or of several joined, without computing or synchronising anything."""

    def epoch_state(self) -> dict[str, Any]:
        """What the running epoch has measured, as plain data."""
        return {"metrics": self.train_metrics.state(), "val_loss": self._val_loss}

    def load_epoch_state(self, state: Mapping[str, Any]) -> None:
        """Measure on from an `epoch_state`, whose tensors are on this device."""
        metrics = self.train_metrics
        metrics.load_state(state["metrics"], lambda output, target: self.observe(metrics, output, target))
        self._val_loss = state["val_loss"]

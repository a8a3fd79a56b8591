"""Which epoch was the best so far, and what was measured then."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from callbacks.trainer_state import epoch_metrics


class BestEpoch:
    """Keeps the metrics of the best epoch by the rule of `BestCheckpoint`: strictly better, so ties keep the earlier.

    A `val…` monitor is judged after each validation, any other at the end of the epoch; None means the newest.
    """

    def __init__(self, monitor: str | None, mode: str) -> None:
        self.monitor = monitor
        self.mode = mode
        self.score: float | None = None
        self.metrics: dict[str, float] = {}

    def without_validation(self) -> None:
        """A run that never validates has no `val…` metric to go by: the newest epoch counts."""
        if self._by_validation:
            self.monitor = None

    def after_validation(self, logged: Mapping[str, Tensor]) -> None:
        if self._by_validation:
            self._take(logged)

    def after_epoch(self, logged: Mapping[str, Tensor]) -> None:
        if not self._by_validation:
            self._take(logged)

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "score": self.score, "metrics": dict(self.metrics)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """A state made under another monitor is not comparable and left alone."""
        if state["monitor"] == self.monitor:
            self.score, self.metrics = state["score"], dict(state["metrics"])

    @property
    def _by_validation(self) -> bool:
        return self.monitor is not None and self.monitor.startswith("val")

    def _take(self, logged: Mapping[str, Tensor]) -> None:
        if self.monitor is not None:
            if self.monitor not in logged:
                return
            value = float(logged[self.monitor])
            if math.isnan(value) or (self.score is not None and not self._better(value, self.score)):
                return
            self.score = value
        self.metrics = epoch_metrics(logged, "val") or epoch_metrics(logged, "train")
        if self.monitor is not None:
            self.metrics[self.monitor] = value  # also train/..., gap/loss: what the epoch was chosen by

    def _better(self, value: float, score: float) -> bool:
        return value < score if self.mode == "min" else value > score

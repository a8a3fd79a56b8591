"""The rule that decides which epoch of a run is the best."""

import math
from collections.abc import Mapping
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from torch import Tensor

from callbacks.trainer_state import epoch_metrics


class BestEpoch:
    """The best epoch so far, with its metrics.

    The best epoch is the earliest one with the best value of `monitor`, and never one with NaN. If `monitor` is None,
    or a `val/...` metric in a run without validation, the best epoch is the newest.
    """

    def __init__(self, monitor: str | None, mode: str) -> None:
        self.monitor, self.mode = monitor, mode
        self.decisive = monitor  # the metric that is compared; None if the newest epoch is the best
        self.forget()

    def forget(self) -> None:
        """Discard the best epoch."""
        self.score: float | None = None
        self.epoch: int | None = None
        self.step: int | None = None
        self.metrics: dict[str, float] = {}

    @property
    def by_validation(self) -> bool:
        """True if validation measures the compared metric, False if the metric is known at the end of an epoch."""
        return needs_validation(self.decisive)

    def start(self, trainer: Trainer) -> bool:
        """Choose the metric to compare when training starts. Return True if the run has validations."""
        # The dataloaders do not exist yet if the run validates rarely and skips the sanity check.
        loaded = trainer.val_dataloaders is not None
        validates = trainer.enable_validation and (not loaded or sum(trainer.num_val_batches) > 0)
        self.decisive = self.monitor if validates or not needs_validation(self.monitor) else None
        return validates

    def improves(self, logged: Mapping[str, Tensor]) -> bool:
        """Return True if an epoch with these metrics is better than the best so far."""
        if self.decisive is None:
            return True
        value = float(logged.get(self.decisive, math.nan))
        if math.isnan(value) or self.score is None:
            return not math.isnan(value)
        return value < self.score if self.mode == "min" else value > self.score

    def store(self, logged: Mapping[str, Tensor], epoch: int, step: int) -> None:
        """Store this epoch as the best, with its validation metrics, or its train metrics if there are none."""
        self.epoch, self.step = epoch, step
        self.metrics = epoch_metrics(logged, "val") or epoch_metrics(logged, "train")
        if self.decisive is not None:
            self.score = self.metrics[self.decisive] = float(logged[self.decisive])

    def update(self, logged: Mapping[str, Tensor], epoch: int, step: int) -> None:
        """Store this epoch as the best if it is better than the best so far."""
        if self.improves(logged):
            self.store(logged, epoch, step)

    def state_dict(self) -> dict[str, Any]:
        scalars = {name: getattr(self, name) for name in ("monitor", "score", "epoch", "step")}
        return {**scalars, "metrics": dict(self.metrics)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the best epoch, unless another metric was monitored."""
        if not isinstance(state, Mapping) or not {"monitor", "score", "metrics"} <= state.keys():
            raise MisconfigurationException("checkpoint: its best epoch is corrupted. Use another checkpoint.")
        if state["monitor"] == self.monitor:
            self.score, self.metrics = state["score"], dict(state["metrics"])
            self.epoch, self.step = state.get("epoch"), state.get("step")


def needs_validation(metric: str | None) -> bool:
    """Return True if only a validation measures the metric."""
    return metric is not None and metric.startswith("val")

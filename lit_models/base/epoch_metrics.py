"""Metrics of an epoch, logged at its end, and their state for checkpoints within the epoch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torchmetrics import Metric

from lit_models.parts.exact_metric import ExactMetric
from lit_models.parts.metrics import build_metrics
from lit_models.parts.stage_metrics import StageMetrics


class EpochMetrics(LightningModule, ABC):
    """Base class of tasks that log the metrics of each stage once per epoch.

    The metrics are ``<stage>/loss`` (data loss, mean over samples), ``<stage>/<metric>``, ``train/l1`` and ``train/l2``
    if they are above 0, and ``gap/loss`` (val/loss divided by train/loss).
    """

    known_metrics: ClassVar[Mapping[str, Callable[[int], Metric]]]

    l1: float
    l2: float
    _val_loss: Tensor | None = None

    @abstractmethod
    def observe(self, metrics: StageMetrics, output: Tensor, target: Tensor) -> None:
        """Update the metrics with the outputs of one batch or of several joined; do not compute or synchronize them."""

    def _prepare_metrics(self, names: Sequence[str], size: int) -> None:
        """Build the metrics for `size` classes or targets; subclasses call this method in their constructor."""
        built = build_metrics(names, self.known_metrics, size)
        penalties = [name for name, weight in (("l1", self.l1), ("l2", self.l2)) if weight > 0]
        self.train_metrics = StageMetrics("train", built, ("loss", *penalties))
        self.val_metrics = StageMetrics("val", built)
        self.test_metrics = StageMetrics("test", built)
        self._remarked: set[str] = set()
        self.metric_names: tuple[str, ...] = ("val/loss", *(f"val/{name}" for name in built))

    def direction(self, name: str) -> Literal["min", "max"] | None:
        """Return "max" if higher values of a logged metric are better, "min" if lower ones are, None if unknown."""
        if name == "gap/loss":
            return "min"
        metrics = getattr(self, f"{name.partition('/')[0]}_metrics", None)
        metric = metrics.by_name().get(name) if isinstance(metrics, StageMetrics) else None
        higher = None if metric is None else metric.higher_is_better
        return None if higher is None else "max" if higher else "min"

    @torch.no_grad()
    def _flush(self, metrics: StageMetrics) -> None:
        for output, target in metrics.flush():
            metrics.count_invalid(output)
            self.observe(metrics, output, target)

    def _log_epoch(self, metrics: StageMetrics) -> None:
        self._flush(metrics)
        invalid = float(metrics.invalid.compute()) if metrics.invalid.update_count else 0.0
        for name, metric in metrics.measured().items():
            is_mean = name.rpartition("/")[2] in metrics.means
            value = metric if is_mean or not invalid else torch.tensor(torch.nan, device=self.device)
            self.log(name, value, on_step=False, on_epoch=True, prog_bar=metrics.stage != "test")
            if value is metric and not self.trainer.sanity_checking:
                self._remark(name, metric)
        if invalid and metrics.stage not in self._remarked:
            self._remarked.add(metrics.stage)
            rank_zero_warn(
                f"{metrics.stage}: metrics are not defined, because the network's output is NaN or infinite for "
                f"{invalid:.2%} of the samples. Look for NaN in the data, or train with a smaller learning rate."
            )

    def _remark(self, name: str, metric: Metric) -> None:
        """Report once which part of a metric is not defined, and why."""
        metric.compute()  # on all ranks; Lightning logs this value
        if isinstance(metric, ExactMetric) and name not in self._remarked:
            names = getattr(getattr(self.trainer, "datamodule", None), "class_names", None)
            if remark := metric.remark(names or ()):
                self._remarked.add(name)
                rank_zero_warn(f"{name} is {remark}.")

    def on_train_epoch_start(self) -> None:
        self.train_metrics.reset()
        self._val_loss = None

    def on_train_epoch_end(self) -> None:
        self._log_epoch(self.train_metrics)
        if self._val_loss is not None and "train/loss" in self.train_metrics.measured():
            self.log("gap/loss", self._val_loss / self.train_metrics.mean_loss(), sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        self.val_metrics.reset()

    def on_validation_epoch_end(self) -> None:
        self._log_epoch(self.val_metrics)
        if not self.trainer.sanity_checking and "val/loss" in self.val_metrics.measured():
            self._val_loss = self.val_metrics.mean_loss()

    def on_test_epoch_start(self) -> None:
        self.test_metrics.reset()

    def on_test_epoch_end(self) -> None:
        self._log_epoch(self.test_metrics)

    def epoch_state(self) -> dict[str, Any]:
        """Return the metrics' state within the current epoch as plain data; the callback `ExactState` saves it."""
        return {"metrics": self.train_metrics.state(), "val_loss": self._val_loss}

    def load_epoch_state(self, state: Mapping[str, Any]) -> None:
        """Continue from an `epoch_state` whose tensors are on this device."""
        self.train_metrics.load_state(state["metrics"], partial(self.observe, self.train_metrics))
        self._val_loss = state["val_loss"]

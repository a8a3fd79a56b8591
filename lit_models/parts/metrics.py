"""Metrics by name, and the metrics of one stage (train, val, test)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection, R2Score
from torchmetrics.classification import AUROC, F1Score, MulticlassAccuracy, Precision, Recall

from lit_models.parts.specs import did_you_mean


class Mean(Metric):
    """Mean over samples.

    torchmetrics' MeanMetric checks every batch for NaN, which synchronizes a GPU and takes twice the time on a CPU.
    """

    total: Tensor
    count: Tensor
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, total: Tensor, samples: int) -> None:
        """Add a sum over `samples` samples."""
        self.total += total
        self.count += samples

    def compute(self) -> Tensor:
        return self.total / self.count


class Accuracy(Metric):
    """Fraction of predicted classes `(B,)` that equal the target; three times as fast as torchmetrics' Accuracy."""

    correct: Tensor
    count: Tensor
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.correct += (preds == target).sum()
        self.count += target.numel()

    def compute(self) -> Tensor:
        return self.correct / self.count


class R2(R2Score):
    """Coefficient of determination; NaN for fewer than two samples, where torchmetrics raises an error."""

    def compute(self) -> Tensor:
        return super().compute() if self.total >= 2 else torch.full_like(self.residual.sum(), float("nan"))


def _top5(classes: int) -> Metric:
    if classes <= 5:
        raise MisconfigurationException(f"metrics: 'top5' is always 1 with {classes} classes. Remove it from metrics.")
    return MulticlassAccuracy(num_classes=classes, top_k=5, average="micro", validate_args=False)


def _per_class(metric: Any) -> Callable[[int], Metric]:
    """Return a function that builds the metric of class 1 for two classes, and the mean over the classes for more."""
    return lambda classes: metric(
        task="binary" if classes == 2 else "multiclass", num_classes=classes, average="macro", validate_args=False
    )


CLASS_METRICS: Mapping[str, Callable[[int], Metric]] = MappingProxyType(
    {
        "acc": lambda _: Accuracy(),
        "top5": _top5,
        "precision": _per_class(Precision),
        "recall": _per_class(Recall),
        "f1": _per_class(F1Score),
        "auroc": _per_class(AUROC),
    }
)
#: Metrics of probabilities; the others take predicted classes, which is cheaper.
SCORED = frozenset({"top5", "auroc"})

NUMBER_METRICS: Mapping[str, Callable[[int], Metric]] = MappingProxyType(
    {
        "mae": lambda _: MeanAbsoluteError(),
        "mse": lambda _: MeanSquaredError(),
        "r2": lambda _: R2(),
    }
)


def build_metrics(names: Sequence[str], known: Mapping[str, Callable[[int], Metric]], size: int) -> dict[str, Metric]:
    """Return new metrics by name for `size` classes or targets; raise an error if a name is unknown."""
    if isinstance(names, str):
        raise MisconfigurationException(f"metrics must be a list of names, got {names!r}. Set metrics: [{names}].")
    for name in names:
        if name not in known:
            raise MisconfigurationException(f"metrics: unknown name {name!r}.{did_you_mean(str(name), known)}")
    return {name: known[name](size) for name in dict.fromkeys(names)}


#: Number of stored values of outputs and targets that triggers an update: rare updates, and less than 1 MiB of memory.
_MAX_STORED_VALUES = 2**17


class StageMetrics(nn.Module):
    """Measurements of one stage: means over samples (the loss, the penalties) and the metrics of the predictions.

    A step only stores its loss, output and target on their device, because a metric's update takes longer than the
    Trainer's own work in a step. When enough batches are stored, and at the end of the epoch, they are joined for one
    update of the metrics. No buffer of a metric is part of the `state_dict`.
    """

    def __init__(self, stage: str, metrics: Mapping[str, Metric], means: Sequence[str] = ("loss",)) -> None:
        super().__init__()
        self.stage = stage
        self.means = nn.ModuleDict({name: Mean() for name in means})
        self.labels = _collection({name: metric for name, metric in metrics.items() if name not in SCORED})
        self.scored = _collection({name: metric for name, metric in metrics.items() if name in SCORED})
        self.stored_means: dict[str, list[tuple[Tensor, int]]] = {name: [] for name in means}
        self.stored: list[tuple[Tensor, Tensor]] = []
        self.space = [_MAX_STORED_VALUES]  # values left; a list, because setting a module's attribute takes 1 µs
        self.finite_only = False  # skip losses of batches, and outputs of samples, that are NaN or infinite
        self.first_sample: list[Tensor] = []  # output and target of one sample of the newest update

    def add_mean(self, name: str, value: Tensor, samples: int) -> None:
        """Store the mean `value` of a batch of `samples`."""
        self.stored_means[name].append((value.detach(), samples))

    def add(self, output: Tensor, target: Tensor) -> bool:
        """Store a batch's output and target; return True if the caller must `flush`."""
        self.stored.append((output, target))
        self.space[0] -= output.numel() + target.numel()
        return self.space[0] <= 0

    def flush(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Update the means, and yield the stored outputs and targets; batches of the same form are joined."""
        for name, stored in self.stored_means.items():
            finite = [entry for entry in stored if torch.isfinite(entry[0])] if self.finite_only else stored
            if finite:
                self.means[name].update(*_sum(finite))  # type: ignore[operator]
            stored.clear()
        pairs, self.stored = self.stored, []
        self.space[0] = _MAX_STORED_VALUES
        for _, group in groupby(pairs, key=_form):
            outputs, targets = zip(*group, strict=True)
            output, target = torch.cat(outputs), torch.cat(targets)
            if self.finite_only:
                rows = torch.isfinite(output).flatten(1).all(1) if output.dim() > 1 else torch.isfinite(output)
                output, target = output[rows], target[rows]
            if len(output):
                self.first_sample = [output[:1], target[:1]]
                yield output, target

    def mean_loss(self) -> Tensor:
        """Return the mean of the losses over all devices.

        It is a method, because torch's tracer reads every property. If one rank does so, it waits for the others
        forever.
        """
        value: Tensor = self.means["loss"].compute()  # type: ignore[operator]
        return value

    def measured(self) -> dict[str, Metric]:
        """Return every metric that was updated, by its logged name."""
        metrics: dict[str, Any] = dict(self.means.items())
        for collection in (self.labels, self.scored):
            if collection is not None:
                metrics.update(collection.items(keep_base=True, copy_state=False))
        return {f"{self.stage}/{name}": metric for name, metric in metrics.items() if metric.update_count > 0}

    def reset(self) -> None:
        """Reset everything before an epoch of this stage."""
        self.stored_means = {name: [] for name in self.stored_means}
        self.stored, self.space[0], self.first_sample = [], _MAX_STORED_VALUES, []
        for metric in self._metrics().values():
            metric.reset()

    def state(self) -> dict[str, Any]:
        """Return all measurements since the last reset as plain data."""
        return {
            "held": list(self.stored),
            "held_means": {name: list(stored) for name, stored in self.stored_means.items()},
            "example": list(self.first_sample),
            "metrics": {name: metric.metric_state for name, metric in self._metrics().items() if metric.update_count},
        }

    def load_state(self, state: Mapping[str, Any], observe: Callable[[Tensor, Tensor], None]) -> None:
        """Restore a `state` whose tensors are on this device; `observe(output, target)` updates the metrics."""
        self.reset()
        for output, target in state["held"]:
            self.add(output, target)
        self.stored_means = {name: [(v, n) for v, n in stored] for name, stored in state["held_means"].items()}
        self.first_sample = list(state["example"])
        if self.first_sample:
            observe(*self.first_sample)  # a metric computes nothing before its first update
        for name, metric in self._metrics().items():
            saved = state["metrics"].get(name, {})
            if isinstance(metric, Mean) and saved:
                metric.update(saved["total"], saved["count"])
            else:
                for key, value in saved.items():
                    setattr(metric, key, list(value) if isinstance(value, list) else value.clone())

    def _metrics(self) -> dict[str, Metric]:
        return {name: metric for name, metric in self.named_modules() if isinstance(metric, Metric)}


def _collection(metrics: Mapping[str, Metric]) -> MetricCollection | None:
    """Return copies of the metrics as one collection, or None if there are none."""
    copies: dict[str, Any] = {name: metric.clone() for name, metric in metrics.items()}
    return MetricCollection(copies) if copies else None


def _sum(stored: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, int]:
    """Return the sum over samples and their number; if all batches have one size, nothing is copied to a GPU."""
    values = torch.stack([value for value, _ in stored])
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    samples = [number for _, number in stored]
    if len(set(samples)) == 1:
        return values.sum() * samples[0], sum(samples)
    return (values * torch.tensor(samples, device=values.device)).sum(), sum(samples)


def _form(pair: tuple[Tensor, Tensor]) -> tuple[Any, ...]:
    """Return the shapes and types that batches must share to be joined; index and soft targets may alternate."""
    output, target = pair
    return output.shape[1:], output.dtype, target.shape[1:], target.dtype

"""Metrics by name, and the set of them that one stage (train, val, test) keeps on the device until its epoch ends."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection, R2Score
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryF1Score,
    BinaryPrecision,
    BinaryRecall,
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from lit_models.parts.specs import did_you_mean


class Mean(Metric):
    """Mean of batch values weighted by their number of samples.

    torchmetrics' MeanMetric looks for NaN in every batch, which makes a GPU wait and costs twice the time on a CPU.
    """

    total: Tensor
    count: Tensor
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, total: Tensor, samples: int) -> None:
        """Take the sum over so many samples."""
        self.total += total
        self.count += samples

    def compute(self) -> Tensor:
        return self.total / self.count


class Accuracy(Metric):
    """Share of predicted classes (B,) equal to the true ones; a third of torchmetrics' own cost per batch."""

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
    """Coefficient of determination; NaN instead of torchmetrics' exception while there are fewer than two samples."""

    def compute(self) -> Tensor:
        return super().compute() if self.total >= 2 else torch.full_like(self.residual.sum(), float("nan"))


def _multiclass(metric: type[Metric]) -> Callable[[int], Metric]:
    return lambda classes: metric(num_classes=classes, average="macro", validate_args=False)


def _top5(classes: int) -> Metric:
    if classes <= 5:
        raise MisconfigurationException(f"metrics: 'top5' is always 1 with {classes} classes; leave it out.")
    return MulticlassAccuracy(num_classes=classes, top_k=5, average="micro", validate_args=False)


def _either(binary: type[Metric], multiclass: type[Metric]) -> Callable[[int], Metric]:
    """Two classes: the figure of class 1, as in scikit-learn; more: the mean over the classes."""
    return lambda classes: binary(validate_args=False) if classes == 2 else _multiclass(multiclass)(classes)


CLASS_METRICS: Mapping[str, Callable[[int], Metric]] = MappingProxyType(
    {
        "acc": lambda _: Accuracy(),
        "top5": _top5,
        "precision": _either(BinaryPrecision, MulticlassPrecision),
        "recall": _either(BinaryRecall, MulticlassRecall),
        "f1": _either(BinaryF1Score, MulticlassF1Score),
        "auroc": _either(BinaryAUROC, MulticlassAUROC),
    }
)
#: These need probabilities; the others are given the predicted classes, which is cheaper.
SCORED = frozenset({"top5", "auroc"})

NUMBER_METRICS: Mapping[str, Callable[[int], Metric]] = MappingProxyType(
    {
        "mae": lambda _: MeanAbsoluteError(),
        "mse": lambda _: MeanSquaredError(),
        "r2": lambda _: R2(),
    }
)


def build_metrics(names: Sequence[str], known: Mapping[str, Callable[[int], Metric]], size: int) -> dict[str, Metric]:
    """New metrics by name for `size` classes or targets; an unknown or repeated name is the user's mistake."""
    if isinstance(names, str):
        raise MisconfigurationException(f"metrics: give a list of names, [{names}], not the text {names!r}.")
    for name in names:
        if name not in known:
            raise MisconfigurationException(f"metrics: {name!r} is not known.{did_you_mean(str(name), known)}")
    return {name: known[name](size) for name in dict.fromkeys(names)}


#: Held numbers of outputs and targets after which they are counted: enough to share the cost, and little memory.
_HELD_NUMBERS = 2**17


class StageMetrics(nn.Module):
    """What one stage measures: sample-weighted means (the loss, the penalties) and the metrics of the predictions.

    A step only lays its loss, output and target aside, on their device, where a metric's update costs more than the
    Trainer itself. Once enough are held the metrics see them joined, as one batch; the rest at the epoch's end.
    Nothing is computed before the epoch ends, and no buffer here is part of a checkpoint's weights.
    """

    def __init__(self, stage: str, metrics: Mapping[str, Metric], means: Sequence[str] = ("loss",)) -> None:
        super().__init__()
        self.stage = stage
        self.means = nn.ModuleDict({name: Mean() for name in means})
        labels: dict[str, Any] = {name: metric.clone() for name, metric in metrics.items() if name not in SCORED}
        scored: dict[str, Any] = {name: metric.clone() for name, metric in metrics.items() if name in SCORED}
        self.labels = MetricCollection(labels) if labels else None
        self.scored = MetricCollection(scored) if scored else None
        self.held_means: dict[str, list[tuple[Tensor, int]]] = {name: [] for name in means}
        self.held: list[tuple[Tensor, Tensor]] = []
        self.room = [_HELD_NUMBERS]  # a list: assigning a module's attribute takes as long as a small addition
        self.finite_only = False  # leave out batches whose loss, and samples whose output, is NaN or infinite
        self.example: list[Tensor] = []  # one sample's output and target, once the metrics have seen any

    def add_mean(self, name: str, value: Tensor, samples: int) -> None:
        """Count the mean `value` of a batch of `samples`."""
        self.held_means[name].append((value.detach(), samples))

    def add(self, output: Tensor, target: Tensor) -> bool:
        """Hold a batch's output and target; whether it is time to `take` what is held."""
        self.held.append((output, target))
        self.room[0] -= output.numel() + target.numel()
        return self.room[0] <= 0

    def take(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Outputs and targets that were held, joined where their shapes allow; the means are counted on the way."""
        for name, held in self.held_means.items():
            if held:
                counted = [entry for entry in held if torch.isfinite(entry[0])] if self.finite_only else held
                if counted:
                    self.means[name].update(*_sum(counted))  # type: ignore[operator]
                held.clear()
        pairs, self.held = self.held, []
        self.room[0] = _HELD_NUMBERS
        for _, alike in groupby(pairs, key=_form):
            outputs, targets = zip(*alike, strict=True)
            output, target = torch.cat(outputs), torch.cat(targets)
            if self.finite_only:
                finite = torch.isfinite(output).flatten(1).all(1) if output.dim() > 1 else torch.isfinite(output)
                output, target = output[finite], target[finite]
            if len(output):
                self.example = [output[:1], target[:1]]
                yield output, target

    def mean_loss(self) -> Tensor:
        """Mean of the losses that were taken, over all devices.

        A method on purpose: torch's tracer reads every property, and on one rank alone this would wait for ever.
        """
        value: Tensor = self.means["loss"].compute()  # type: ignore[operator]
        return value

    def measured(self) -> dict[str, Metric]:
        """Every metric that saw a batch, under the name it is logged as."""
        found: dict[str, Any] = dict(self.means.items())
        for collection in (self.labels, self.scored):
            if collection is not None:
                found.update(collection.items(keep_base=True, copy_state=False))
        return {f"{self.stage}/{name}": metric for name, metric in found.items() if metric.update_count > 0}

    def reset(self) -> None:
        """Forget everything, before an epoch of this stage begins."""
        self.held_means = {name: [] for name in self.held_means}
        self.held, self.room[0], self.example = [], _HELD_NUMBERS, []
        for metric in self._metrics().values():
            metric.reset()

    def state(self) -> dict[str, Any]:
        """What was counted since the last reset, as plain data: counting on from it gives the same figures."""
        return {
            "held": list(self.held),
            "held_means": {name: list(held) for name, held in self.held_means.items()},
            "example": list(self.example),
            "metrics": {name: metric.metric_state for name, metric in self._metrics().items() if metric.update_count},
        }

    def load_state(self, state: Mapping[str, Any], observe: Callable[[Tensor, Tensor], None]) -> None:
        """Go back to a `state`, whose tensors are on this device; `observe` shows the metrics outputs and targets."""
        self.reset()
        self.held = [(output, target) for output, target in state["held"]]
        self.room[0] -= sum(output.numel() + target.numel() for output, target in self.held)
        self.held_means = {name: [(v, n) for v, n in held] for name, held in state["held_means"].items()}
        self.example = list(state["example"])
        if self.example:
            observe(*self.example)  # a metric that has seen nothing refuses to compute
        for name, metric in self._metrics().items():
            kept = state["metrics"].get(name, {})
            if isinstance(metric, Mean) and kept:
                metric.update(kept["total"], kept["count"])
            elif kept:
                for part, value in kept.items():
                    setattr(metric, part, list(value) if isinstance(value, list) else value.clone())

    def _metrics(self) -> dict[str, Metric]:
        return {name: metric for name, metric in self.named_modules() if isinstance(metric, Metric)}


def _sum(held: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, int]:
    """Batch means times their samples, and the samples; nothing is sent to a GPU where all batches are alike."""
    values = torch.stack([value for value, _ in held])
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    samples = [number for _, number in held]
    if len(set(samples)) == 1:
        return values.sum() * samples[0], sum(samples)
    return (values * torch.tensor(samples, device=values.device)).sum(), sum(samples)


def _form(pair: tuple[Tensor, Tensor]) -> tuple[Any, ...]:
    """What must agree for batches to be joined; index and soft targets may come in turns."""
    output, target = pair
    return output.shape[1:], output.dtype, target.shape[1:], target.dtype

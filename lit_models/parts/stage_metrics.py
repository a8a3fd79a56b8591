"""Measurements of one stage: train, val or test."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from lit_models.parts.exact_metric import Mean, exact
from lit_models.parts.metrics import OF_LOGITS

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
        self.invalid = Mean()  # fraction of samples with an output that is NaN or infinite
        self.labels = _collection({name: metric for name, metric in metrics.items() if name not in OF_LOGITS})
        self.scored = _collection({name: metric for name, metric in metrics.items() if name in OF_LOGITS})
        self.stored_means: dict[str, list[tuple[Tensor, int | Tensor]]] = {name: [] for name in means}
        self.stored: list[tuple[Tensor, Tensor]] = []
        self.space = [_MAX_STORED_VALUES]  # values left; a list, because setting a module's attribute takes 1 µs
        self.finite_only = False  # skip losses of batches, and outputs of samples, that are NaN or infinite
        self.first_sample: list[Tensor] = []  # output and target of one sample of the newest update

    def add_mean(self, name: str, value: Tensor, samples: int | Tensor) -> None:
        """Store the mean `value` of a batch of `samples`, or of a batch with this sum of weights."""
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

    def count_invalid(self, output: Tensor) -> None:
        """Count the samples with an output that is NaN or infinite; a logit of minus infinity is valid."""
        valid = (output < torch.inf).flatten(1).all(1) if output.dim() > 1 else output < torch.inf
        self.invalid.update((~valid).sum(), len(output))

    def mean_loss(self) -> Tensor:
        """Return the mean of the losses over all devices.

        It is a method, because torch's tracer reads every property. If one rank does so, it waits for the others
        forever.
        """
        value: Tensor = self.means["loss"].compute()  # type: ignore[operator]
        return value

    def by_name(self) -> dict[str, Metric]:
        """Return every mean and metric by its logged name."""
        metrics: dict[str, Any] = dict(self.means.items())
        for collection in (self.labels, self.scored):
            if collection is not None:
                metrics.update(collection.items(keep_base=True, copy_state=False))
        return {f"{self.stage}/{name}": metric for name, metric in metrics.items()}

    def measured(self) -> dict[str, Metric]:
        """Return every metric that was updated, by its logged name."""
        return {name: metric for name, metric in self.by_name().items() if metric.update_count > 0}

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
            if name.startswith(("means.", "invalid")) and saved:
                metric.update(saved["total"], saved["count"])
            elif saved and saved.keys() != metric.metric_state.keys():  # other sums than those of this version
                metric.reset()
                rank_zero_warn(
                    f"{self.stage}/{name.rpartition('.')[2]} of the current epoch covers only the samples after the "
                    "resume, because another version of litlab saved the checkpoint."
                )
            else:
                for key, value in saved.items():
                    setattr(metric, key, list(value) if isinstance(value, list) else value.clone())

    def _metrics(self) -> dict[str, Metric]:
        return {name: metric for name, metric in self.named_modules() if isinstance(metric, Metric)}


def _collection(metrics: Mapping[str, Metric]) -> MetricCollection | None:
    """Return copies of the metrics as one collection, or None if there are none."""
    copies: dict[str, Any] = {name: metric.clone() for name, metric in metrics.items()}
    return MetricCollection(copies) if copies else None


def _sum(stored: Sequence[tuple[Tensor, int | Tensor]]) -> tuple[Tensor, int | Tensor]:
    """Return the sum over samples and their number; if all batches have one size, nothing is copied to a GPU."""
    values = exact(torch.stack([value for value, _ in stored]))
    samples = [number for _, number in stored if isinstance(number, int)]
    if len(samples) < len(stored):
        weights = exact(torch.stack([torch.as_tensor(weight, device=values.device) for _, weight in stored]))
        return (values * weights).where(weights > 0, 0.0).sum(), weights.sum()
    if len(set(samples)) == 1:
        return values.sum() * samples[0], sum(samples)
    return (values * torch.tensor(samples, device=values.device)).sum(), sum(samples)


def _form(pair: tuple[Tensor, Tensor]) -> tuple[Any, ...]:
    """Return the shapes and types that batches must share to be joined; index and soft targets may alternate."""
    output, target = pair
    return output.shape[1:], output.dtype, target.shape[1:], target.dtype

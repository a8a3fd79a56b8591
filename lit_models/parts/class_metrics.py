"""Metrics of classes.

`TopK`, `NLL` and the metrics that rank are updated with logits `(B, C)`, the others with predicted classes `(B,)`. The
target is a class index `(B,)`.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.utilities import dim_zero_cat

from lit_models.parts.exact_metric import ExactMetric, Mean, exact


class Accuracy(ExactMetric):
    """Fraction of predicted classes `(B,)` that equal the target; three times as fast as torchmetrics' Accuracy."""

    higher_is_better = True
    correct: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.correct += (preds == target).sum()
        self.count += target.numel()

    def compute(self) -> Tensor:
        return exact(self.correct) / self.count


class TopK(Accuracy):
    """Fraction of samples whose class has one of the k highest logits; of equal logits, the first count as higher."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def update(self, preds: Tensor, target: Tensor) -> None:
        own = preds.gather(1, target.unsqueeze(1))
        classes = torch.arange(preds.shape[1], device=preds.device)
        # Written so that NaN counts as higher, and never as correct.
        higher = ~(preds <= own) | ((preds == own) & (classes < target.unsqueeze(1)))
        self.correct += (higher.sum(1) < self.k).sum()
        self.count += target.numel()


class NLL(Mean):
    """Negative log-likelihood, mean over samples: cross-entropy without class weights or label smoothing."""

    def update(self, preds: Tensor, target: Tensor) -> None:  # type: ignore[override]
        super().update(functional.cross_entropy(exact(preds), target, reduction="sum"), target.numel())


class ClassMean(ExactMetric):
    """Base class of metrics with a value per class: that of class 1 of two, else the mean over classes with samples."""

    higher_is_better = True
    value: Tensor
    samples: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    @abstractmethod
    def per_class(self) -> tuple[Tensor, Tensor]:
        """Return value and number of samples of each class, both `(C,)`; NaN is a value that is not defined."""

    def compute(self) -> Tensor:
        values, self.samples = self.per_class()
        # The mean over no class is NaN.
        self.value = values[1] if self.classes == 2 else values[(self.samples > 0) & ~values.isnan()].mean()
        return self.value

    def remark(self, names: Sequence[str]) -> str:
        def belong(classes: Tensor) -> str:
            shown = [names[i] if names else str(i) for i in classes.nonzero().flatten().tolist()]
            return f"{', '.join(shown[:5])}{f' and {len(shown) - 5} more' if len(shown) > 5 else ''}"

        absent = self.samples == 0
        if self.value.isnan():
            if int(absent.sum()) == self.classes - 1:
                return f"not defined, because all samples belong to class {belong(~absent)}"
            return f"not defined, because no sample belongs to class {belong(absent)}"
        if self.classes == 2 or not absent.any():
            return ""
        number = self.classes - int(absent.sum())
        return f"the mean over {number} of {self.classes} classes, because no sample belongs to class {belong(absent)}"


class _Counts(ClassMean):
    """Base class of metrics of predicted classes, from three counts per class."""

    correct: Tensor
    predicted: Tensor
    actual: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        for name in ("correct", "predicted", "actual"):
            self.add_state(name, torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.correct += torch.bincount(target[preds == target], minlength=self.classes)
        self.predicted += torch.bincount(preds, minlength=self.classes)
        self.actual += torch.bincount(target, minlength=self.classes)

    def per_class(self) -> tuple[Tensor, Tensor]:
        return self.ratio(*(exact(count) for count in (self.correct, self.predicted, self.actual))), self.actual

    @abstractmethod
    def ratio(self, correct: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        """Return the value of each class `(C,)`."""


class Precision(_Counts):
    """Share of the samples predicted as a class that belong to it; 0 if a class with samples is never predicted."""

    def ratio(self, correct: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return torch.where((predicted == 0) & (actual > 0), 0.0, correct / predicted)


class Recall(_Counts):
    """Share of the samples of a class that are predicted as it."""

    def ratio(self, correct: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return correct / actual


class F1(_Counts):
    """Harmonic mean of precision and recall of a class."""

    def ratio(self, correct: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
        return 2 * correct / (predicted + actual)


class _Ranking(ClassMean):
    """Base class of metrics that rank samples by the log odds of a class; probabilities would tie at 0 and 1.

    Stores 8 bytes per sample and class.
    """

    scores: list[Tensor]
    targets: list[Tensor]

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.scores.append(log_odds(preds))
        self.targets.append(target)

    def per_class(self) -> tuple[Tensor, Tensor]:
        scores, targets = dim_zero_cat(self.scores), dim_zero_cat(self.targets)
        samples = torch.bincount(targets, minlength=self.classes)
        values = [self.rank(score, targets == index) for index, score in enumerate(scores.unbind(1))]
        return torch.stack(values), samples

    def rank(self, scores: Tensor, positive: Tensor) -> Tensor:
        """Return the metric of one class for scores and membership, both `(N,)`."""
        _, place, ties = torch.unique(scores, return_inverse=True, return_counts=True)  # in ascending order
        hits = torch.bincount(place[positive], minlength=len(ties))
        return self.area(exact(hits), exact(ties - hits))

    @abstractmethod
    def area(self, hits: Tensor, others: Tensor) -> Tensor:
        """Return the metric for samples of the class and other samples at each score, in ascending order."""


class AUROC(_Ranking):
    """Area under the ROC curve: how often a sample of the class has a higher score than another one; ties count half.

    Not defined if all samples belong to the class or none does.
    """

    def area(self, hits: Tensor, others: Tensor) -> Tensor:
        below = others.cumsum(0) - others / 2
        return (hits * below).sum() / (hits.sum() * others.sum())


class AveragePrecision(_Ranking):
    """Mean precision at the scores of the samples of a class, with all samples of equal or higher score."""

    def area(self, hits: Tensor, others: Tensor) -> Tensor:
        found, false = hits.flip(0).cumsum(0), others.flip(0).cumsum(0)
        return (hits.flip(0) * found / (found + false)).sum() / hits.sum()


def log_odds(logits: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of each class for logits `(N, C)`, exact where p rounds to 0 or 1.

    Rows with the same logits in another order have exactly equal odds, so that ties stay ties.
    """
    logits = exact(logits)
    logits = logits - logits.amax(dim=1, keepdim=True)
    others = logits.sort(dim=1).values[:, :-1].logsumexp(dim=1, keepdim=True)  # all but the highest, which is now 0
    log_p = logits - torch.logaddexp(others, torch.zeros_like(others))
    return torch.where(logits == 0, -others, log_p - torch.log1p(-log_p.exp()))

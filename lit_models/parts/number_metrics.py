"""Metrics of predicted numbers `(B, D)` for targets `(B, D)`, in float64."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_models.parts.exact_metric import ExactMetric, Mean, exact


class MAE(Mean):
    """Mean absolute error over samples and targets."""

    def update(self, preds: Tensor, target: Tensor) -> None:  # type: ignore[override]
        super().update((exact(preds) - exact(target)).abs().sum(), target.numel())


class MSE(Mean):
    """Mean squared error over samples and targets."""

    def update(self, preds: Tensor, target: Tensor) -> None:  # type: ignore[override]
        super().update((exact(preds) - exact(target)).square().sum(), target.numel())


class R2(ExactMetric):
    """Coefficient of determination, mean over targets.

    Not defined for a constant target, which is omitted from the mean, nor for a single sample. The squared deviations
    of batches and processes are merged as in Chan, Golub and LeVeque 1983, because a sum of squares loses all digits if
    the mean is large compared with the spread.
    """

    higher_is_better = True
    moments: list[Tensor]

    def __init__(self, targets: int) -> None:
        super().__init__()
        self.targets = targets
        # Rows of D numbers for each update: count, mean, sum of squared deviations, sum of squared errors.
        self.add_state("moments", [], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        preds, target = exact(preds), exact(target)
        mean = target[0] + (target - target[0]).mean(0)  # exact for equal targets
        deviations, errors = (target - mean).square().sum(0), (target - preds).square().sum(0)
        self.moments.append(torch.stack((torch.full_like(mean, len(target)), mean, deviations, errors)).unsqueeze(0))

    def compute(self) -> Tensor:
        stored = self.moments if isinstance(self.moments, Tensor) else torch.cat(self.moments)
        counts, means, deviations, errors = stored.unbind(1)
        mean = means[0] + (counts * (means - means[0])).sum(0) / counts.sum(0)
        total = deviations.sum(0) + (counts * (means - mean).square()).sum(0)
        self.constant = total == 0
        return (1 - errors.sum(0) / total)[~self.constant].mean()  # NaN if every target is constant

    def remark(self, names: Sequence[str]) -> str:
        constant = self.constant.nonzero().flatten().tolist()
        if not constant:
            return ""
        if len(constant) == self.targets:
            return "not defined, because all samples have the same target"
        some = ", ".join(str(i) for i in constant)
        return f"the mean over {self.targets - len(constant)} of {self.targets} targets; constant: target {some}"

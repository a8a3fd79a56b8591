"""Predictions of a classifier for a dataset, with its worst and its least certain samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor


@dataclass
class TopSamples:
    """Samples with the highest scores: inputs `(N, ...)`, classes `(N,)`, probabilities `(N, K)`, scores `(N,)`."""

    limit: int
    inputs: Tensor | None = None
    targets: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    probabilities: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    scores: Tensor = field(default_factory=lambda: torch.zeros(0))

    def add(self, scores: Tensor, inputs: Tensor, targets: Tensor, probabilities: Tensor) -> None:
        """Add the samples of a batch."""
        top = scores.topk(min(self.limit, len(scores))).indices
        new = [values[top].cpu() for values in (scores, inputs, targets, probabilities)]
        if self.inputs is not None:
            old = (self.scores, self.inputs, self.targets, self.probabilities)
            new = [torch.cat(pair) for pair in zip(old, new, strict=True)]
        best = new[0].topk(min(self.limit, len(new[0]))).indices
        self.scores, self.inputs, self.targets, self.probabilities = (values[best] for values in new)


@dataclass
class Evidence:
    """Probabilities `(N, K)` and classes `(N,)` of a dataset, with its worst and its least certain samples.

    The worst samples are misclassified with the highest probability of the predicted class. For the least certain
    samples, the difference between the two highest probabilities is the smallest. Samples with probabilities that are
    not finite are counted and omitted.
    """

    worst: TopSamples
    uncertain: TopSamples
    not_finite: int = 0
    batches: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    @classmethod
    def empty(cls, images: int) -> Evidence:
        """Return evidence without samples, which will store up to `images` worst and least certain samples."""
        return cls(TopSamples(images), TopSamples(images))

    @cached_property
    def probabilities(self) -> Tensor:
        """Probabilities `(N, K)`; read it after the last batch."""
        return torch.cat([probabilities for probabilities, _, _ in self.batches])

    @cached_property
    def targets(self) -> Tensor:
        """Classes `(N,)`; read it after the last batch."""
        return torch.cat([targets for _, targets, _ in self.batches])

    @cached_property
    def scores(self) -> Tensor:
        """Scores `(N, K)` that rank the samples for each class; read it after the last batch."""
        return torch.cat([scores for *_, scores in self.batches])

    def add(self, inputs: Tensor, probabilities: Tensor, targets: Tensor, log_odds: Tensor | None = None) -> None:
        """Add a batch of inputs `(B, ...)`, probabilities `(B, K)` and classes `(B,)`.

        Samples are ranked by their log odds `(B, K)` if given, because many probabilities round to 0 or 1.
        """
        inputs, probabilities, targets = inputs.detach().float(), probabilities.detach().float(), targets.long()
        scores = probabilities if log_odds is None else log_odds.detach().double()
        finite = torch.isfinite(probabilities).all(dim=1)
        if not bool(finite.all()):
            self.not_finite += int((~finite).sum())
            inputs, probabilities, targets = inputs[finite], probabilities[finite], targets[finite]
            scores = scores[finite]
        if len(targets) == 0:
            return
        self.batches.append((probabilities.cpu(), targets.cpu(), scores.cpu()))
        highest = probabilities.topk(min(2, probabilities.shape[1]), dim=1).values
        wrong = probabilities.argmax(dim=1) != targets
        if bool(wrong.any()):
            self.worst.add(highest[wrong, 0], inputs[wrong], targets[wrong], probabilities[wrong])
        self.uncertain.add(highest[:, -1] - highest[:, 0], inputs, targets, probabilities)


def merge(gathered: Sequence[Evidence]) -> Evidence:
    """Merge the evidence of all processes into the first element, and return it."""
    first = gathered[0]
    for other in gathered[1:]:
        first.batches += other.batches
        first.not_finite += other.not_finite
        for top, added in ((first.worst, other.worst), (first.uncertain, other.uncertain)):
            if added.inputs is not None:
                top.add(added.scores, added.inputs, added.targets, added.probabilities)
    return first

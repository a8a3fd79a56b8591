"""What a classifier predicted for a whole data set: probabilities, classes, and the samples that went most wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Examples:
    """The samples of the highest scores so far: inputs (N, ...), classes (N,), probabilities (N, K), scores (N,)."""

    most: int
    inputs: Tensor | None = None
    targets: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    probabilities: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    scores: Tensor = field(default_factory=lambda: torch.zeros(0))

    def add(self, scores: Tensor, inputs: Tensor, targets: Tensor, probabilities: Tensor) -> None:
        """Merge samples of a batch."""
        top = scores.topk(min(self.most, len(scores))).indices
        new = [values[top].cpu() for values in (scores, inputs, targets, probabilities)]
        if self.inputs is not None:
            held = (self.scores, self.inputs, self.targets, self.probabilities)
            new = [torch.cat(pair) for pair in zip(held, new, strict=True)]
        best = new[0].topk(min(self.most, len(new[0]))).indices
        self.scores, self.inputs, self.targets, self.probabilities = (values[best] for values in new)


@dataclass
class Evidence:
    """Probabilities (N, K) and classes (N,) of a data set, and two sets of examples.

    A sample is the worse the less probability its own class got, and the more uncertain the nearer its two highest
    probabilities are. Samples with probabilities that are not finite are counted and left out.
    """

    probabilities: Tensor
    targets: Tensor
    not_finite: int
    worst: Examples
    uncertain: Examples

    @classmethod
    def empty(cls, images: int, classes: int) -> Evidence:
        """Before the first batch."""
        kept = [Examples(images), Examples(images)]
        return cls(torch.zeros(0, classes), torch.zeros(0, dtype=torch.int64), 0, *kept)

    def add(self, inputs: Tensor, probabilities: Tensor, targets: Tensor) -> None:
        """Take a batch: inputs (B, ...), probabilities (B, K), classes (B,)."""
        inputs, probabilities = inputs.detach().float(), probabilities.detach().float()
        finite = torch.isfinite(probabilities).all(dim=1)
        if not bool(finite.all()):
            self.not_finite += int((~finite).sum())
            inputs, probabilities, targets = inputs[finite], probabilities[finite], targets[finite]
        if len(targets) == 0:
            return
        self.probabilities = torch.cat((self.probabilities, probabilities.cpu()))
        self.targets = torch.cat((self.targets, targets.cpu()))
        own = probabilities.gather(1, targets[:, None])[:, 0]
        wrong = probabilities.argmax(dim=1) != targets
        if bool(wrong.any()):
            self.worst.add(-own[wrong], inputs[wrong], targets[wrong], probabilities[wrong])
        highest = probabilities.topk(min(2, probabilities.shape[1]), dim=1).values
        self.uncertain.add(highest[:, -1] - highest[:, 0], inputs, targets, probabilities)


def joined(parts: Sequence[Evidence]) -> Evidence:
    """The evidence of several processes as one."""
    first = parts[0]
    for other in parts[1:]:
        first.probabilities = torch.cat((first.probabilities, other.probabilities))
        first.targets = torch.cat((first.targets, other.targets))
        first.not_finite += other.not_finite
        for mine, theirs in ((first.worst, other.worst), (first.uncertain, other.uncertain)):
            if theirs.inputs is not None:
                mine.add(theirs.scores, theirs.inputs, theirs.targets, theirs.probabilities)
    return first

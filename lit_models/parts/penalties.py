"""L1 and L2 penalties of the weights, as separate terms of the objective."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def penalty_terms(weights: Sequence[nn.Parameter], l1: float, l2: float) -> dict[str, Tensor]:
    """Return l1 * sum(abs(w)) and l2 / 2 * sum(w ** 2) over the weights, without terms that are 0."""
    terms: dict[str, Tensor] = {}
    if l1:
        terms["l1"] = l1 * torch.stack([w.abs().sum() for w in weights]).sum()
    if l2:
        terms["l2"] = 0.5 * l2 * torch.stack([w.square().sum() for w in weights]).sum()
    return terms

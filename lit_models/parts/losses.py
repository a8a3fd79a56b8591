"""Losses by name.

Losses for classes take logits `(B, C)` and class indices `(B,)`, or one-hot or soft targets `(B, C)`, with equal
results. The single logit z `(B, 1)` of a binary classifier stands for two logits (0, z). Losses for numbers take equal
shapes.

A loss that divides by something else than the number of samples has a method `batch_weight(output, target)`, which
returns the divisor.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn import functional

from lit_models.parts import specs
from lit_models.parts.specs import Spec

#: `ignore_index` that no target has; with torch's default, targets of -100 would not count, without a report.
_NO_CLASS = -(2**62)


def soft_targets(logits: Tensor, target: Tensor) -> Tensor:
    """Return class indices, one-hot or soft targets as floats `(B, C)`; for C = 1 as probabilities of class 1."""
    classes = max(logits.shape[1], 2)
    if are_indices(target):
        target = functional.one_hot(target, classes)
    elif target.shape == (logits.shape[0], 1) and classes == 2:
        target = torch.cat((1 - target, target), dim=1)
    if target.shape != (logits.shape[0], classes):
        raise MisconfigurationException(
            f"loss: targets for logits of shape {tuple(logits.shape)} must be integer class indices (B,) or one-hot "
            f"(B, classes), got shape {tuple(target.shape)} of {target.dtype}. Return such targets from the data."
        )
    target = target.to(logits.dtype if logits.is_floating_point() else torch.float32)
    return target[:, 1:] if logits.shape[1] == 1 else target


def two_logits(logits: Tensor) -> Tensor:
    """Return a single logit z as (0, z), whose softmax is (1 - sigmoid(z), sigmoid(z)), and more logits unchanged."""
    return torch.cat((torch.zeros_like(logits), logits), dim=1) if logits.shape[1] == 1 else logits


def are_indices(target: Tensor) -> bool:
    """Return True for class indices `(B,)`."""
    return target.dim() == 1 and not target.is_floating_point()


class CrossEntropy(nn.Module):
    """Cross-entropy of softmax, weighted mean over samples; index and one-hot targets give equal results.

    Samples whose class index is `ignore_index` do not count.
    """

    weight: Tensor | None

    def __init__(
        self, weight: Sequence[float] | None = None, label_smoothing: float = 0.0, ignore_index: int | None = None
    ) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(f"label_smoothing must be from 0 to 1, got {label_smoothing}")
        if weight is not None and not (min(weight, default=0) >= 0 and 0 < sum(weight) < float("inf")):
            raise ValueError(f"weight must contain numbers of at least 0, and one above 0, got {weight}")
        if ignore_index is not None and not isinstance(ignore_index, int):
            raise ValueError(f"ignore_index must be an integer, got {ignore_index!r}")
        self.label_smoothing, self.ignore_index = label_smoothing, ignore_index
        self._weights = None if weight is None else list(weight)
        self.register_buffer("weight", None if weight is None else torch.tensor(weight, dtype=torch.float32))

    @property
    def is_weighted(self) -> bool:
        """Whether samples have unequal weights."""
        return self.weight is not None or self.ignore_index is not None

    def batch_weight(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the sum of the samples' weights, by which the loss divides."""
        weight = self._weight_like(output)
        if are_indices(target):
            return index_weight(target, weight, self.ignore_index)
        target = soft_targets(two_logits(output), target)
        return target.sum() if weight is None else (target * weight).sum()

    def _weight_like(self, output: Tensor) -> Tensor | None:
        """Return the class weights in the precision of the output; a model in bfloat16 has rounded the buffer."""
        if self.weight is None or self.weight.dtype == output.dtype:
            return self.weight
        return torch.tensor(self._weights, dtype=output.dtype, device=output.device)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = two_logits(logits)
        target = target if are_indices(target) else soft_targets(logits, target)
        if not self.is_weighted:
            return functional.cross_entropy(
                logits, target, ignore_index=_NO_CLASS, label_smoothing=self.label_smoothing
            )
        if self.ignore_index is not None and not are_indices(target):
            raise MisconfigurationException(
                f"loss: ignore_index {self.ignore_index} needs class indices, got one-hot or soft targets. "
                "Set --data.target_form index, or remove ignore_index and mixing augmentations."
            )
        total = functional.cross_entropy(
            logits,
            target,
            self._weight_like(logits),
            ignore_index=_NO_CLASS if self.ignore_index is None else self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return total / _or_one(self.batch_weight(logits, target))


class NLL(CrossEntropy):
    """Negative log-likelihood of the log-softmax of logits, equal to cross-entropy without label smoothing.

    Log-probabilities are their own log-softmax, so that the output of `nn.LogSoftmax` gives the same value.
    """

    def __init__(self, weight: Sequence[float] | None = None, ignore_index: int | None = None) -> None:
        super().__init__(weight, ignore_index=ignore_index)


def index_weight(target: Tensor, weight: Tensor | None, ignore_index: int | None) -> Tensor:
    """Return the sum of the class weights (None means 1) over all class indices that are not `ignore_index`."""
    if ignore_index is None:
        return torch.ones_like(target).sum() if weight is None else weight[target].sum()
    counted = target != ignore_index
    return counted.sum() if weight is None else (weight[target.where(counted, 0)] * counted).sum()


def _or_one(weight: Tensor) -> Tensor:
    """Return 1 for the weight of a batch in which no sample counts, so that its loss is 0 instead of NaN."""
    return weight.where(weight > 0, 1)


def batch_weight(loss: nn.Module) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return the function that computes the divisor of the loss, or None for the number of samples."""
    if isinstance(loss, CrossEntropy) and not loss.is_weighted:
        return None
    if type(loss) in (nn.CrossEntropyLoss, nn.NLLLoss) and loss.reduction == "mean":
        return partial(_torch_weight, loss)
    return getattr(loss, "batch_weight", None)


def _torch_weight(loss: nn.Module, _: Tensor, target: Tensor) -> Tensor:
    """Return the divisor of torch's cross-entropy or NLL: for soft targets the number of samples."""
    if target.is_floating_point():
        return torch.tensor(target.numel() // target.shape[1], device=target.device)
    return index_weight(target, loss.weight, loss.ignore_index)  # type: ignore[arg-type]


class KLDivergence(nn.Module):
    """Kullback-Leibler divergence between the target distribution and softmax, mean over samples."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = two_logits(logits)
        log_probabilities = functional.log_softmax(logits.float(), dim=1)
        return functional.kl_div(log_probabilities, soft_targets(logits, target).float(), reduction="batchmean")


class BCEWithLogits(nn.Module):
    """Binary cross-entropy of sigmoid per logit, mean over all logits; `pos_weight` weights positive targets."""

    pos_weight: Tensor | None

    def __init__(self, pos_weight: Sequence[float] | float | None = None) -> None:
        super().__init__()
        self.register_buffer("pos_weight", None if pos_weight is None else torch.tensor(pos_weight).float())

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        target = soft_targets(logits, target)
        return functional.binary_cross_entropy_with_logits(logits, target, pos_weight=self.pos_weight)


class BCE(nn.Module):
    """Binary cross-entropy of probabilities, as torch's BCELoss; computes the sigmoid of a network that has none.

    `probabilities` says whether the network's output are probabilities. By default, this is True for a network that
    ends in sigmoid or softmax. BCEWithLogits is more accurate for large logits.
    """

    def __init__(self, probabilities: bool | None = None) -> None:
        super().__init__()
        self.probabilities = probabilities

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        # torch rejects this loss in mixed precision, in which probabilities round to exactly 0 or 1.
        with torch.autocast(output.device.type, enabled=False):
            probabilities = output.float() if self.probabilities else output.float().sigmoid()
            return functional.binary_cross_entropy(probabilities, soft_targets(output, target).float())


CLASS_LOSSES: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "cross_entropy": CrossEntropy,
        "nll": NLL,
        "kl_div": KLDivergence,
        "bce_with_logits": BCEWithLogits,
        "bce": BCE,
    }
)
NUMBER_LOSSES: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {"mse": nn.MSELoss, "l1": nn.L1Loss, "smooth_l1": nn.SmoothL1Loss, "huber": nn.HuberLoss}
)


def build_loss(spec: Spec, short_names: Mapping[str, Callable[..., nn.Module]], others: Mapping[str, Any]) -> nn.Module:
    """Return the loss module; raise an error if the name is in `others`, the losses of the other task."""
    name = specs.as_spec(spec, "loss")["class_path"]
    if name.lower() in others:
        raise MisconfigurationException(
            f"loss must be one of {', '.join(short_names)}, or a class path, got {name!r}. "
            f"Set --model.loss {next(iter(short_names))}."
        )
    target, arguments = specs.resolve(spec, short_names, "loss", nn.Module, nn.modules.loss)
    for key in ("weight", "pos_weight"):
        # torch's own losses need tensors, but a spec has lists.
        if isinstance(arguments.get(key), (list, tuple)) and target.__module__.startswith("torch."):
            arguments[key] = torch.tensor(arguments[key], dtype=torch.float32)
    module = specs.build(target, (), arguments, "loss")
    for owner in module.modules():
        for key, value in list(owner.named_buffers(recurse=False)):
            # Class weights are hyperparameters. A model with another loss must be able to load the checkpoint.
            delattr(owner, key)
            owner.register_buffer(key, value, persistent=False)
    return module

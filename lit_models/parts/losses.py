"""Losses by name.

Losses for classes take logits `(B, C)` and class indices `(B,)`, or one-hot or soft targets `(B, C)`, with equal
results. The single logit z `(B, 1)` of a binary classifier stands for two logits (0, z). Losses for numbers take equal
shapes.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn import functional

from lit_models.parts import specs
from lit_models.parts.specs import Spec


def soft_targets(logits: Tensor, target: Tensor) -> Tensor:
    """Return class indices, one-hot or soft targets as floats `(B, C)`; for C = 1 as probabilities of class 1."""
    classes = max(logits.shape[1], 2)
    if target.dim() == 1 and not target.is_floating_point():
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


class CrossEntropy(nn.Module):
    """Cross-entropy of softmax, weighted mean over samples; index and one-hot targets give equal results."""

    weight: Tensor | None

    def __init__(self, weight: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(f"label_smoothing must be from 0 to 1, got {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.register_buffer("weight", None if weight is None else torch.tensor(weight, dtype=torch.float32))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = two_logits(logits)
        are_indices = target.dim() == 1 and not target.is_floating_point()
        target = target if are_indices else soft_targets(logits, target)
        if are_indices or self.weight is None:
            return functional.cross_entropy(logits, target, self.weight, label_smoothing=self.label_smoothing)
        total = functional.cross_entropy(
            logits, target, self.weight, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return total / (target * self.weight).sum()


class NLL(CrossEntropy):
    """Negative log-likelihood of the log-softmax of logits, equal to cross-entropy without label smoothing."""

    def __init__(self, weight: Sequence[float] | None = None) -> None:
        super().__init__(weight)


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
    """Binary cross-entropy of sigmoid(logits) as in textbooks; less accurate than BCEWithLogits for large logits."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        # torch rejects this loss in mixed precision, in which probabilities round to exactly 0 or 1.
        with torch.autocast(logits.device.type, enabled=False):
            return functional.binary_cross_entropy(logits.float().sigmoid(), soft_targets(logits, target).float())


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


def check_weights(loss: nn.Module, num_classes: int) -> None:
    """Raise an error unless the loss has one weight per class; skip custom losses, which may use them differently."""
    if not type(loss).__module__.startswith(("torch.", __name__)):
        return
    for name in ("weight", "pos_weight"):
        weight = getattr(loss, name, None)
        if not isinstance(weight, Tensor) or weight.dim() == 0:
            continue
        if weight.dim() != 1 or len(weight) not in ((num_classes,) if name == "weight" else (1, num_classes)):
            raise MisconfigurationException(
                f"loss: {name} must have one number per class ({num_classes}), got {weight.numel()}. "
                f"Correct --model.loss.{name}."
            )


def check_class_loss(loss: nn.Module, num_classes: int, form: str | None) -> None:
    """Raise an error if a loss fails for zero logits and targets in the `form` index, one_hot or None (either).

    For two classes, the loss may take one logit or two.
    """
    if type(loss) in CLASS_LOSSES.values():
        return
    batch = 2 if num_classes != 2 else 3  # different from the number of classes, so that nothing broadcasts
    index = torch.zeros(batch, dtype=torch.int64)
    forms = {"index": ("class indices", index), "one_hot": ("one-hot targets", torch.eye(num_classes)[index])}
    failures: list[str] = []
    for kind, target in [forms[form]] if form in forms else forms.values():
        for count in (2, 1) if num_classes == 2 else (num_classes,):
            reason = _error(loss, torch.zeros(batch, count), target)
            if reason is None:
                return
            failures.append(f"logits {(batch, count)} and {kind} {tuple(target.shape)}: {reason}")
    raise MisconfigurationException(
        f"loss: {type(loss).__name__} fails for {failures[0]}. Use one of {', '.join(CLASS_LOSSES)}."
    )


def _error(loss: nn.Module, logits: Tensor, target: Tensor) -> str | None:
    """Return the first sentence of the loss's error for this batch, or None if it succeeds."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # torch's own losses only warn if they broadcast different shapes.
        warnings.filterwarnings("error", message="Using a target size")
        try:
            value = loss(logits, target)
        except Exception as error:  # a custom loss may raise any exception
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return first_line.partition(". ")[0].rstrip(".")
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        return f"it must return one number, got {shape}"
    return None

"""Losses by name.

Losses for classes take logits (B, C) and class indices (B,), or one-hot or soft targets (B, C), with equal results. A
binary classifier with one logit z (B, 1) means the two logits (0, z). Losses for numbers take equal shapes.
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
    """Indices (B,), one-hot or soft targets as float (B, C) with the logits' C, 1 meaning the share of class 1."""
    classes = max(logits.shape[1], 2)
    if target.dim() == 1 and not target.is_floating_point():
        target = functional.one_hot(target, classes)
    elif target.shape == (logits.shape[0], 1) and classes == 2:
        target = torch.cat((1 - target, target), dim=1)
    if target.shape != (logits.shape[0], classes):
        raise MisconfigurationException(
            f"loss: targets of shape {tuple(target.shape)} fit no logits of shape {tuple(logits.shape)}; "
            "classes are given as indices (B,) or one-hot (B, classes)."
        )
    target = target.to(logits.dtype if logits.is_floating_point() else torch.float32)
    return target[:, 1:] if logits.shape[1] == 1 else target


def two_logits(logits: Tensor) -> Tensor:
    """One logit z as the pair (0, z), whose softmax is (1 - sigmoid(z), sigmoid(z)); more logits as they are."""
    return torch.cat((torch.zeros_like(logits), logits), dim=1) if logits.shape[1] == 1 else logits


class CrossEntropy(nn.Module):
    """Cross-entropy of softmax; a class weight counts alike for index and one-hot targets (mean over the weights)."""

    weight: Tensor | None

    def __init__(self, weight: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError("label_smoothing lies between 0 and 1")
        self.label_smoothing = label_smoothing
        self.register_buffer("weight", None if weight is None else torch.tensor(weight, dtype=torch.float32))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = two_logits(logits)
        if target.dim() == 1 and not target.is_floating_point():
            return functional.cross_entropy(logits, target, self.weight, label_smoothing=self.label_smoothing)
        target = soft_targets(logits, target)
        if self.weight is None:
            return functional.cross_entropy(logits, target, label_smoothing=self.label_smoothing)
        total = functional.cross_entropy(
            logits, target, self.weight, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return total / (target * self.weight).sum()


class NLL(CrossEntropy):
    """Negative log-likelihood of log-softmax, taken inside: the same number as cross-entropy without smoothing."""

    def __init__(self, weight: Sequence[float] | None = None) -> None:
        super().__init__(weight)


class KLDivergence(nn.Module):
    """Kullback-Leibler divergence of the target distribution from softmax, mean over samples."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = two_logits(logits)
        log_probabilities = functional.log_softmax(logits.float(), dim=1)
        return functional.kl_div(log_probabilities, soft_targets(logits, target).float(), reduction="batchmean")


class BCEWithLogits(nn.Module):
    """Binary cross-entropy of sigmoid per logit, mean over all logits; `pos_weight` weighs the positives."""

    pos_weight: Tensor | None

    def __init__(self, pos_weight: Sequence[float] | float | None = None) -> None:
        super().__init__()
        self.register_buffer("pos_weight", None if pos_weight is None else torch.tensor(pos_weight).float())

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        target = soft_targets(logits, target)
        return functional.binary_cross_entropy_with_logits(logits, target, pos_weight=self.pos_weight)


class BCE(nn.Module):
    """Binary cross-entropy of the probabilities sigmoid(logits), as courses write it; less exact for large logits."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        # torch refuses this loss under mixed precision, where a probability rounds to exactly 0 or 1.
        with torch.autocast(logits.device.type, enabled=False):
            return functional.binary_cross_entropy(logits.float().sigmoid(), soft_targets(logits, target).float())


CLASS_LOSSES: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "cross_entropy": CrossEntropy,
        "nll": NLL,
        "kl_div": KLDivergence,
        "bce_with_logits": BCEWithLogits,
        "bce": BCE,
    }
)
NUMBER_LOSSES: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"mse": nn.MSELoss, "l1": nn.L1Loss, "smooth_l1": nn.SmoothL1Loss, "huber": nn.HuberLoss}
)


def build_loss(spec: Spec, short_names: Mapping[str, Callable[..., Any]], others: Mapping[str, Any]) -> nn.Module:
    """The loss module; `others` are the names that belong to the other task and are refused with that reason."""
    name = specs.as_spec(spec, "loss")["class_path"]
    if name.lower() in others:
        raise MisconfigurationException(
            f"loss: {name!r} is made for the other task; here these fit: {', '.join(short_names)}, or a class path."
        )
    target, settings = specs.resolve(spec, short_names, "loss", nn.Module, nn.modules.loss)
    for key in ("weight", "pos_weight"):
        # torch's own losses, given by class path, want tensors; plain data holds lists.
        if isinstance(settings.get(key), (list, tuple)) and target.__module__.startswith("torch."):
            settings[key] = torch.tensor(settings[key], dtype=torch.float32)
    module: nn.Module = specs.build(target, (), settings, "loss")
    for owner in module.modules():
        for key, value in list(owner.named_buffers(recurse=False)):
            # Class weights are hyper-parameters: a checkpoint stays loadable by a model with another loss.
            delattr(owner, key)
            owner.register_buffer(key, value, persistent=False)
    return module


def check_weights(loss: nn.Module, num_classes: int) -> None:
    """Refuse weights of classes that are not one for each class."""
    if not type(loss).__module__.startswith(("torch.", __name__)):
        return  # what somebody's own loss calls a weight is not known
    for name in ("weight", "pos_weight"):
        weight = getattr(loss, name, None)
        if not isinstance(weight, Tensor) or weight.dim() == 0:
            continue
        if weight.dim() != 1 or len(weight) not in ((num_classes,) if name == "weight" else (1, num_classes)):
            raise MisconfigurationException(
                f"loss: {name} has {weight.numel()} numbers for {num_classes} classes; give one for each class."
            )


def check_class_loss(loss: nn.Module, num_classes: int, form: str | None) -> None:
    """Try a loss on zero logits and targets in the `form` index or one_hot (None: not known, either will do).

    For two classes a loss of one logit will do as well.
    """
    if type(loss) in CLASS_LOSSES.values():
        return
    batch = 2 if num_classes != 2 else 3  # no size that broadcasts by accident
    index = torch.zeros(batch, dtype=torch.int64)
    forms = {"index": index, "one_hot": functional.one_hot(index, num_classes).float()}
    reasons: list[str] = []
    for name in [form] if form in forms else list(forms):
        for count in (2, 1) if num_classes == 2 else (num_classes,):
            logits = torch.zeros(batch, count)
            reason = _refusal(loss, logits, forms[name])
            if reason is None:
                return
            kind = "class indices" if name == "index" else "one-hot targets"
            reasons.append(f"logits {tuple(logits.shape)} and {kind} {tuple(forms[name].shape)}: {reason}")
    raise MisconfigurationException(
        f"loss: {type(loss).__name__} does not fit {reasons[0]}. Use one of {', '.join(CLASS_LOSSES)}."
    )


def _refusal(loss: nn.Module, logits: Tensor, target: Tensor) -> str | None:
    """Why the loss cannot be used, None if it can."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # torch's own losses broadcast what does not fit and only warn.
        warnings.filterwarnings("error", message="Using a target size")
        try:
            value = loss(logits, target)
        except Exception as error:  # a loss by class path may raise anything
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return first_line.partition(". ")[0].rstrip(".")
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        return f"it gives {shape}, not one number"
    return None

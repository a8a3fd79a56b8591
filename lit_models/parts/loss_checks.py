"""Checks of losses, before training and on the first batch."""

import copy
import math
import warnings
from collections.abc import Callable

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from lit_models.parts import losses
from lit_models.parts.losses import BCE, BCEWithLogits, CrossEntropy, KLDivergence
from lit_models.parts.output_ending import Ending

#: Losses that compute softmax or sigmoid of the output. The first group accepts log-probabilities of log-softmax.
_OF_SOFTMAX = (CrossEntropy, KLDivergence, nn.CrossEntropyLoss)
_OF_SIGMOID = (BCEWithLogits, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)
_OF_LOG_PROBABILITIES = (nn.NLLLoss, nn.KLDivLoss)


def check_weights(loss: nn.Module, num_classes: int) -> None:
    """Raise an error unless the loss has one weight per class; skip custom losses, which may use them differently."""
    if not type(loss).__module__.startswith(("torch.", losses.__name__)):
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
    if type(loss) in losses.CLASS_LOSSES.values():
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
        f"loss: {type(loss).__name__} fails for {failures[0]}. Use one of {', '.join(losses.CLASS_LOSSES)}."
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


def mean_problem(
    loss: nn.Module,
    batch_weight: Callable[[Tensor, Tensor], Tensor] | None,
    output: Tensor,
    target: Tensor,
    shares_step: bool,
) -> str | None:
    """Return why the loss is not the weighted mean over the samples of a batch like this one.

    If an optimizer step has one batch, training is right and only the epoch's mean depends on the batch size. The
    function then warns and returns None.
    """
    if type(loss).__module__ == losses.__name__ or not len(output) or len(target) != len(output):
        return None
    name = type(loss).__name__
    output, target = _varied(output, target)
    half = len(output) // 2
    batches = [(output, target), (torch.cat((output, output)), torch.cat((target, target)))]
    batches += [(output[:half], target[:half]), (output[half:], target[half:])]
    try:
        total, twice, *halves = _values(loss, batches)
    except Exception:  # a custom loss may need batches of one size
        return _dependent(name, shares_step)
    weights = [len(y) if batch_weight is None else float(batch_weight(x, y)) for x, y in batches[2:]]
    if not math.isfinite(total) or not sum(weights):
        return None
    if total and math.isclose(twice, 2 * total, rel_tol=1e-4):
        return (
            f"loss: {name} must return the mean over the samples, but it returns their sum (the loss of a batch is "
            f"{total:.4g}, and {twice:.4g} if each sample is there twice). Set reduction: mean, or divide by the "
            "number of samples."
        )
    mean = sum(w * v for w, v in zip(weights, halves, strict=True) if w) / sum(weights)
    if math.isclose(mean, total, rel_tol=1e-4, abs_tol=1e-6 * max(map(abs, halves))):
        return None
    return _dependent(name, shares_step)


def _varied(output: Tensor, target: Tensor, rows: int = 64) -> tuple[Tensor, Tensor]:
    """Return random outputs and targets of the same kind, whose halves have different classes and losses.

    The first batch itself may have one sample, one class, equal losses, or values so large that differences are lost.
    """
    generator = torch.Generator().manual_seed(0)
    random = torch.randn((rows, *output.shape[1:]), generator=generator)
    several = output.dim() == 2 and output.shape[1] > 1
    if several and _sums_to_one(output.exp()):
        random = random.log_softmax(1)
    elif _is_probability(output):
        random = random.softmax(1) if several and _sums_to_one(output) else random.sigmoid()
    classes = max(output.shape[1], 2) if output.dim() == 2 else 2
    index = torch.arange(rows) * classes // rows  # sorted, so that the halves differ
    made = torch.randn((rows, *target.shape[1:]), generator=generator)
    if losses.are_indices(target):
        made = index
    elif _is_probability(target):
        made = torch.eye(classes)[index] if target.shape[1:] == (classes,) else (made > 0).float()
    return random.to(output), made.to(target)


def _is_probability(values: Tensor) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _dependent(name: str, shares_step: bool) -> str | None:
    """Return the error about a loss that is not a mean over samples; warn if each step has one batch."""
    remedy = (
        "If it is a weighted mean, give it a method batch_weight(output, target) that returns the sum of the weights "
        "(docs/models.md)."
    )
    if shares_step:
        return (
            f"loss: {name} is not a mean over samples, so that its gradients depend on accumulation and on the number "
            f"of processes. {remedy} Otherwise set --trainer.accumulate_grad_batches 1 and --trainer.devices 1."
        )
    rank_zero_warn(f"loss: {name} is not a mean over samples, so that val/loss depends on the batch size. {remedy}")
    return None


@torch.no_grad()
def _values(loss: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> list[float]:
    """Return the loss of each batch; the loss's own state and the random numbers of training do not change."""
    device = batches[0][0].device
    values = []
    for output, target in batches:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            values.append(float(copy.deepcopy(loss)(output, target)))
    return values


def output_problem(
    loss: nn.Module, output: Tensor, target: Tensor, ending: Ending | None, may_guess: bool
) -> str | None:
    """Return why the loss cannot take this output; warn if it takes probabilities for logits, or the reverse.

    `ending` is the network's last function if it is known. Only if `may_guess`, values from 0 to 1 count as evidence.
    """
    if output.dim() != 2 or not len(output):
        return None
    if isinstance(loss, CrossEntropy) and losses.are_indices(target):
        problem = _class_problem(loss, output, target)
        if problem is not None:
            return problem
    name, low, high = type(loss).__name__, float(output.min()), float(output.max())
    several, in_range = output.shape[1] > 1, 0.0 <= low <= high <= 1.0
    log_probabilities = several and _sums_to_one(output.exp())
    if isinstance(loss, _OF_LOG_PROBABILITIES) and several and not log_probabilities:
        return (
            f"loss: {name} needs log-probabilities, but the exponentials of the network's outputs do not sum to 1. "
            "Set --model.loss nll, which takes logits, or end the network with nn.LogSoftmax(dim=1)."
        )
    if (isinstance(loss, nn.BCELoss) or (isinstance(loss, BCE) and loss.probabilities)) and not in_range:
        return (
            f"loss: {name} needs probabilities from 0 to 1, got outputs from {low:.4g} to {high:.4g}. "
            "End the network with nn.Sigmoid(), or set --model.loss bce_with_logits, which takes logits."
        )
    guessed = may_guess and in_range and low < high and (_sums_to_one(output) if several else True)
    remark = _remark(loss, several, log_probabilities, ending, guessed)
    if remark is not None:
        rank_zero_warn(f"loss: {name} {remark}")
    return None


def _remark(
    loss: nn.Module, several: bool, log_probabilities: bool, ending: Ending | None, guessed: bool
) -> str | None:
    """Return what is probably wrong with the output, and the remedy."""
    if isinstance(loss, (*_OF_SIGMOID, BCE)) and log_probabilities:
        return (
            "does not take log-probabilities, but the exponentials of the network's outputs sum to 1. "
            "Set --model.loss nll, or remove the network's last LogSoftmax."
        )
    if isinstance(loss, BCE) and loss.probabilities is None and guessed:
        return (
            "computes the sigmoid of the network's outputs, but they are from 0 to 1 and may be probabilities. "
            "Set --model.loss.probabilities true if they are, or false for logits."
        )
    if isinstance(loss, (*_OF_SOFTMAX, *_OF_SIGMOID)) and (ending or guessed):
        of_softmax = several and isinstance(loss, _OF_SOFTMAX)
        found = f"the network ends in {ending}" if ending else "they seem to be probabilities"
        other = "or replace it with nn.LogSoftmax(dim=1)" if of_softmax else "or set --model.loss bce"
        return (
            f"computes the {'softmax' if of_softmax else 'sigmoid'} of the network's outputs, but {found}. "
            f"Training is then slow, and the loss cannot reach 0. Remove the last function of the network, {other}."
        )
    return None


def _sums_to_one(values: Tensor) -> bool:
    sums = values.float().sum(1)
    return bool(((sums - 1).abs() < 1e-2).all())


def _class_problem(loss: CrossEntropy, output: Tensor, target: Tensor) -> str | None:
    """Return an error if a class index is out of range."""
    classes = max(output.shape[1], 2)
    wrong = (target < 0) | (target >= classes)
    if loss.ignore_index is not None:
        wrong &= target != loss.ignore_index
    if not wrong.any():
        return None
    found = int(target[wrong][0])
    return (
        f"loss: class indices must be from 0 to {classes - 1}, got {found}. "
        f"Correct the targets, or set --model.loss.ignore_index {found} if these samples do not count."
    )

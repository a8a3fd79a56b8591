"""Base class of models that predict a class."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lit_models.base.task import LitTask
from lit_models.parts.class_metrics import log_odds
from lit_models.parts.loss_checks import check_class_loss, check_weights, output_problem
from lit_models.parts.losses import BCE, CLASS_LOSSES, NUMBER_LOSSES, are_indices, two_logits
from lit_models.parts.metrics import CLASS_METRICS
from lit_models.parts.output_ending import Ending, ending_of, logits_of
from lit_models.parts.specs import Spec
from lit_models.parts.stage_metrics import StageMetrics


def class_indices(target: Tensor) -> Tensor:
    """Return class indices `(B,)` for indices, one-hot or soft targets `(B, C)`, or probabilities `(B, 1)`."""
    if target.dim() == 1:
        return target
    return (target[:, 0] > 0.5).long() if target.shape[1] == 1 else target.argmax(dim=1)


class LitClassifier(LitTask):
    """Model that predicts one of `num_classes` classes from logits `(B, num_classes)`, or `(B, 1)` for two classes.

    A network that ends in sigmoid or softmax returns probabilities instead.

    Args:
        num_classes: from the data.
        loss: cross_entropy, nll, kl_div, bce_with_logits, bce, or a class path that takes (output, target). The logged
            losses include its class weights and label smoothing; the metric nll does not.
        metrics: any of acc, top5, nll, precision, recall, f1, auroc, average_precision. The last five are those of
            class 1 for two classes, and the mean over the classes for more.
        **kwargs: see `LitTask`.
    """

    known_losses = CLASS_LOSSES
    other_losses = NUMBER_LOSSES
    known_metrics = CLASS_METRICS
    target_property = "num_classes"
    counterpart = "LitMLPRegressor or LitLinearRegression"

    _ending: Ending | Literal["unknown"] | None = "unknown"
    _may_guess: bool = False  # whether outputs from 0 to 1 are evidence of probabilities

    def __init__(
        self,
        input_shape: Sequence[int] | None = None,
        num_classes: int | None = None,
        loss: Spec = "cross_entropy",
        metrics: Sequence[str] = ("acc",),
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape=input_shape, loss=loss, metrics=metrics, **kwargs)
        self.num_classes = self._checked_size(num_classes, 2)
        check_weights(self.loss_fn, self.num_classes)
        self._prepare_metrics(metrics, self.num_classes)

    def typed_target(self, y: Tensor) -> Tensor:
        return y if y.dtype == torch.int64 or y.is_floating_point() else y.long()

    def observe(self, metrics: StageMetrics, output: Tensor, target: Tensor) -> None:
        ignored = getattr(self.loss_fn, "ignore_index", None)
        if ignored is not None and are_indices(target):
            output, target = output[target != ignored], target[target != ignored]
        target, output = class_indices(target), self.output_logits(output)
        if metrics.labels is not None:
            one_logit = output.shape[1] == 1
            # `max` takes half the time of `argmax` on a CPU; for equal values both return the first index.
            metrics.labels.update((output[:, 0] > 0).long() if one_logit else output.max(dim=1).indices, target)
        if metrics.scored is not None:
            metrics.scored.update(two_logits(output), target)

    def output_ending(self) -> Ending | None:
        """Return the network's last function if that is sigmoid or softmax; the first call evaluates the network.

        It is a method, because torch's tracer reads every property.
        """
        if self._ending == "unknown":
            found = ending_of(self) if self._is_foreign() else "linear"
            self._may_guess = found is None
            self._ending = None if found == "linear" else found
            if isinstance(self.loss_fn, nn.BCELoss) or getattr(self.loss_fn, "probabilities", False) is True:
                self._ending = self._ending or "sigmoid"
            elif isinstance(self.loss_fn, BCE) and self.loss_fn.probabilities is False:
                self._ending = None
        return self._ending

    def _is_foreign(self) -> bool:
        """Return False for litlab's own networks, which return logits."""
        file = getattr(sys.modules.get(type(self.net).__module__), "__file__", None)
        own = file is not None and Path(__file__).parents[1] in Path(file).parents
        return not own or type(self).forward is not LitTask.forward

    def output_logits(self, output: Tensor) -> Tensor:
        """Return logits for the network's output, which may be probabilities."""
        ending = self.output_ending()
        return output if ending is None else logits_of(output, ending)

    def probabilities(self, output: Tensor) -> Tensor:
        """Return probabilities `(B, num_classes)` for the network's output, in float32 or float64."""
        logits = two_logits(self.output_logits(output))
        exact = torch.softmax(logits, dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))
        return exact.to(torch.promote_types(output.dtype, torch.float32))

    def predicted(self, output: Tensor, target: Tensor | None) -> dict[str, Tensor]:
        probabilities = self.probabilities(output)
        result = {
            "prediction": probabilities.argmax(dim=1),
            "probabilities": probabilities,
            "log_odds": log_odds(two_logits(self.output_logits(output))),
        }
        return result if target is None else {"target": class_indices(target), **result}

    def loss_problem(self, output: Tensor, target: Tensor) -> str | None:
        columns = {self.num_classes, 1} if self.num_classes == 2 else {self.num_classes}
        if output.dim() != 2 or output.shape[1] not in columns:
            return (
                f"model: the network must return (batch, {self.num_classes}) outputs for {self.num_classes} classes, "
                f"got shape {tuple(output.shape)}. Change its last layer."
            )
        problem = output_problem(self.loss_fn, output, target, self.output_ending(), self._may_guess)
        return problem or super().loss_problem(output, target)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self._ending = "unknown"
        if isinstance(self.loss_fn, BCE) and self.output_ending() is not None:
            self.loss_fn.probabilities = True
        if type(self).outputs is LitTask.outputs and self.device.type == "cpu":  # other `outputs` change the shapes
            data = getattr(self.trainer, "datamodule", None)
            check_class_loss(self.loss_fn, self.num_classes, getattr(data, "target_form", None))

    def check_target(self, data: Any) -> None:
        if getattr(data, "vocab_size", None) is not None and "vocab_size" not in self.data_properties():
            name = type(self).__name__
            raise MisconfigurationException(f"model: {name} predicts classes, but the data is text. Use LitTokenLSTM.")
        super().check_target(data)

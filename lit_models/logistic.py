"""Binary and softmax logistic regression."""

from typing import Any, Literal

from lit_models.base.classifier import LitClassifier
from lit_models.base.shapes import sample_shape
from lit_models.linear import LinearRegression
from lit_models.parts.specs import Spec


class LogisticRegression(LinearRegression):
    """Logits of logistic regression, `(B, *input_shape)` -> `(B, out_features)`; `(B, 1)` for two classes."""


class LitLogisticRegression(LitClassifier):
    """Logistic regression on the flattened sample.

    Args:
        input_shape: from the data.
        num_classes: from the data.
        two_classes: "sigmoid" (one logit for two classes) or "softmax" (one logit per class).
        loss: None means binary cross-entropy for one logit, else cross-entropy.
        **kwargs: see `LitClassifier`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...] | None = None,
        num_classes: int | None = None,
        two_classes: Literal["sigmoid", "softmax"] = "sigmoid",
        loss: Spec | None = None,
        **kwargs: Any,
    ) -> None:
        one_logit = num_classes == 2 and two_classes == "sigmoid"
        chosen = loss if loss is not None else "bce_with_logits" if one_logit else "cross_entropy"
        super().__init__(input_shape=input_shape, num_classes=num_classes, loss=chosen, **kwargs)
        shape = sample_shape(type(self).__name__, input_shape)
        self.net = self.initialized(LogisticRegression(shape, 1 if one_logit else self.num_classes), fresh=True)

"""Linear and logistic regression find the coefficients of scikit-learn."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import Tensor

from lit_models import LitLinearRegression, LitLogisticRegression

FULL_BATCH = {"name": "lbfgs", "lr": 1.0, "max_iter": 200, "tolerance_grad": 1e-9, "tolerance_change": 1e-12}
C = 0.5


def _difference(model: Any, weight: Any, bias: Any) -> float:
    linear = model.net.linear
    ours = np.concatenate([linear.weight.detach().numpy().ravel(), linear.bias.detach().numpy().ravel()])
    theirs = np.concatenate([np.ravel(weight), np.ravel(bias)])
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def _classes(number: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(120, 5, generator=generator)
    scores = x @ torch.randn(5, number, generator=generator) + torch.randn(120, number, generator=generator)
    return x, (scores + torch.arange(number)).argmax(1)


@pytest.mark.parametrize("targets", [1, 3])
def test_linear_regression_is_least_squares(trainer: Any, loader: Any, targets: int) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(100, 4, generator=generator) * torch.tensor([1.0, 3.0, 0.5, 1.0]) + 2
    y = x @ torch.randn(4, targets, generator=generator) + 1 + torch.randn(100, targets, generator=generator)
    model = LitLinearRegression((4,), targets, optimizer=FULL_BATCH)
    trainer(max_epochs=10).fit(model, loader(x, y))
    theirs = LinearRegression().fit(x.numpy(), y.numpy())
    assert _difference(model, theirs.coef_, theirs.intercept_) < 1e-3


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_with_l2(trainer: Any, loader: Any, classes: int) -> None:
    x, y = _classes(classes)
    model = LitLogisticRegression((5,), classes, l2=1 / (C * len(x)), optimizer=FULL_BATCH)
    trainer(max_epochs=10).fit(model, loader(x, y))
    theirs = LogisticRegression(C=C, tol=1e-8, max_iter=1000).fit(x.numpy(), y.numpy())
    if classes == 4:  # unpenalized biases are unique up to a constant
        with torch.no_grad():
            model.net.linear.bias -= model.net.linear.bias.mean()
        theirs.intercept_ -= theirs.intercept_.mean()
    assert _difference(model, theirs.coef_, theirs.intercept_) < 1e-3


def test_two_classes_as_one_logit_or_as_softmax(trainer: Any, loader: Any) -> None:
    x, y = _classes(2)
    one = LitLogisticRegression((5,), 2)
    assert one.net.linear.out_features == 1
    two = LitLogisticRegression((5,), 2, two_classes="softmax")
    assert two.net.linear.out_features == 2
    for model in (one, two):
        model_run = trainer(max_epochs=30)
        model.optimizer_spec = {"name": "lbfgs"}
        model_run.fit(model, loader(x, y))
        assert model_run.callback_metrics["train/acc"] > 0.8
    ours, theirs = (model.predict_step((x, y), 0)["probabilities"] for model in (one, two))
    assert torch.allclose(ours, theirs, atol=1e-2)


def test_weight_decay_and_l2_change_weights_equally(trainer: Any, loader: Any) -> None:
    x, y = _classes(4)
    weights = []
    for settings in ({"l2": 0.1}, {"optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 0.1}}):
        torch.manual_seed(0)
        model = LitLogisticRegression((5,), 4, **{"optimizer": {"name": "sgd", "lr": 0.1}, **settings})  # type: ignore[arg-type]
        trainer(max_epochs=1, max_steps=1).fit(model, loader(x, y))
        weights.append(model.net.linear.weight.detach())
    assert torch.allclose(*weights, atol=1e-7)

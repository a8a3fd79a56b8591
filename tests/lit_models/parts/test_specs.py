"""What a user may write where a model asks for an optimizer, a loss, an activation by name, and what is refused."""

from functools import partial
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from lit_models import LitMLP
from lit_models.parts.activations import ACTIVATIONS, build_activation
from lit_models.parts.optimizers import DEFAULT_OPTIMIZER, OPTIMIZERS, build_optimizer
from lit_models.parts.specs import as_spec, brief

SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5, "momentum": 0.9}}


@pytest.mark.parametrize(
    "value",
    [
        SGD,
        {"class_path": "torch.optim.SGD", "lr": 0.5, "momentum": 0.9},
        {"name": "torch.optim.SGD", "lr": 0.5, "momentum": 0.9},
        {"class_path": "torch.optim.SGD", "init_args": {"lr": 7.0, "momentum": 0.9}, "lr": 0.5},
        partial(torch.optim.SGD, lr=0.5, momentum=0.9),
    ],
)
def test_all_forms_of_a_spec_mean_the_same(value: Any) -> None:
    assert as_spec(value) == SGD


def test_a_spec_is_not_changed_by_reading_it() -> None:
    value = {"class_path": "sgd", "init_args": {"lr": 0.5}, "momentum": 0.9}
    as_spec(value)
    LitMLP((4,), 3, optimizer=value)
    assert value == {"class_path": "sgd", "init_args": {"lr": 0.5}, "momentum": 0.9}
    assert DEFAULT_OPTIMIZER == {"name": "adam", "lr": 0.001}


def test_a_bare_name_stays_a_bare_name() -> None:
    assert brief("cosine") == brief({"name": "cosine"}) == "cosine"
    assert brief(torch.optim.SGD) == "torch.optim.SGD"


@pytest.mark.parametrize("name", ["SGD", "sgd", "torch.optim.SGD", "torch.optim.sgd"])
def test_names_compare_without_case(name: str) -> None:
    assert type(build_optimizer({"name": name, "lr": 0.1}, [torch.nn.Parameter(torch.zeros(1))])) is torch.optim.SGD


@pytest.mark.parametrize("name", [*OPTIMIZERS, "NAdam", "RAdam", "torch.optim.Adamax", "torch.optim.Muon"])
def test_every_optimizer_learns(trainer: Any, loader: Any, blobs: Any, name: str) -> None:
    lr = {"adadelta": 1.0, "lbfgs": 1.0}.get(name, 0.05)
    more = {"head_lr": 0.1} if name == "muon" else {}
    model = LitMLP((4,), 3, hidden=(16, 16), optimizer={"name": name, "lr": lr, **more})
    if name == "torch.optim.Muon":  # takes matrices only: its own refusal reaches the user as a sentence
        with pytest.raises(MisconfigurationException, match=r"optimizer: Muon\(.*2D"):
            trainer().fit(model, loader(*blobs, batch_size=30))
        return
    run = trainer(max_epochs=10)
    run.fit(model, loader(*blobs, batch_size=90 if name == "lbfgs" else 30))
    assert run.callback_metrics["train/loss"] < 0.7


def test_momentum_and_nesterov_are_what_they_say() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1))]
    group = build_optimizer({"name": "nesterov", "lr": 0.1}, weights).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.9, True)
    group = build_optimizer({"name": "momentum", "lr": 0.1, "momentum": 0.5}, weights).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.5, False)


def test_the_fused_implementation_is_taken_where_nothing_else_was_asked_for() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1))]
    for spec, fused in (
        ("adam", True),
        ("momentum", True),
        ("rmsprop", None),
        ({"name": "adam", "foreach": True}, None),
    ):
        assert build_optimizer(spec, weights, fused=True).param_groups[0].get("fused") is fused
    assert not build_optimizer({"name": "adam", "fused": False}, weights, fused=True).param_groups[0]["fused"]
    assert not build_optimizer("adam", weights).param_groups[0]["fused"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": {"name": "adam", "lr": -1.0}}, r"optimizer: Adam\(lr=-1.0\) is refused: Invalid learning rate"),
        ({"optimizer": "adm"}, r"optimizer: 'adm' is not known. Did you mean adam\?"),
        ({"optimizer": {"name": "adam", "learning": 1}}, r"optimizer: adam has no setting 'learning'"),
        ({"optimizer": {"name": "adam", "weightdecay": 1}}, r"Did you mean weight_decay\?"),
        ({"optimizer": {"name": "adam", "lr": "fast"}}, r"optimizer: adam: lr='fast' must be a number"),
        ({"optimizer": {"name": "adam", "lr": float("nan")}}, r"lr is NaN"),
        ({"optimizer": {"lr": 0.1}}, r"optimizer: lr=0.1 is given without a name; .*--model.optimizer.name NAME"),
        ({"optimizer": {"name": "sgd", "class_path": "adam"}}, r"both name='sgd' and class_path='adam'"),
        ({"optimizer": "torch.optim.Adan"}, r"torch.optim has no class 'Adan'. Did you mean Adam\?"),
        ({"optimizer": "torch.nn.Linear"}, r"torch.nn.Linear is no subclass of torch.optim"),
        ({"optimizer": "nowhere.at.All"}, r"'nowhere.at.All' cannot be imported"),
        ({"optimizer": lambda p: torch.optim.SGD(p)}, r"optimizer: a function cannot be stored"),
        ({"optimizer": 3}, r"optimizer: 3 is neither a name nor a dictionary"),
        ({"loss": "mse"}, r"loss: 'mse' is made for the other task"),
        ({"loss": "cross_entrpy"}, r"Did you mean cross_entropy\?"),
        ({"loss": {"name": "cross_entropy", "label_smoothing": 3.0}}, r"label_smoothing lies between 0 and 1"),
        ({"init": "xavier"}, r"init: 'xavier' is not known. Did you mean xavier"),
        ({"init": {"name": "normal", "sd": 1}}, r"normal has no setting 'sd'. Did you mean std\?"),
        ({"activation": "rely"}, r"activation: 'rely' is not known. Did you mean relu\?"),
        ({"metrics": ["acc", "f2"]}, r"metrics: 'f2' is not known. Did you mean f1\?"),
        ({"metrics": "acc"}, r"metrics: give a list of names, \[acc\]"),
        ({"metrics": ["top5"]}, r"'top5' is always 1 with 3 classes"),
        ({"l2": -0.1}, r"l2: -0.1 is no penalty"),
        ({"hidden": (0,)}, r"hidden: \(0,\) must be a list of positive integers"),
        ({"dropout": 1.0}, r"dropout: 1.0 is no rate"),
    ],
)
def test_a_mistake_is_refused_in_words_when_the_model_is_built(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message) as caught:
        LitMLP((4,), 3, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*ACTIVATIONS, "ELU", "torch.nn.Softplus"])
def test_activations_by_name(name: str) -> None:
    values = build_activation(name)(torch.tensor([-1.0, 0.0, 2.0]))
    assert values.shape == (3,)
    assert values[2] > values[0]


def test_an_activation_takes_settings() -> None:
    assert build_activation("leaky_relu")(torch.tensor(-1.0)) == pytest.approx(-0.01)
    assert build_activation({"name": "leaky_relu", "negative_slope": 0.5})(torch.tensor(-1.0)) == pytest.approx(-0.5)

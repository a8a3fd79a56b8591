"""Valid and invalid specs of optimizers, losses and activations."""

from functools import partial
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from lit_models import LitMLP
from lit_models.parts.activations import ACTIVATIONS, build_activation
from lit_models.parts.optimizers import DEFAULT_OPTIMIZER, OPTIMIZERS, build_optimizer
from lit_models.parts.specs import as_spec, short_form

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
def test_all_forms_of_a_spec_are_equal(value: Any) -> None:
    assert as_spec(value) == SGD


def test_reading_a_spec_does_not_change_it() -> None:
    value = {"class_path": "sgd", "init_args": {"lr": 0.5}, "momentum": 0.9}
    as_spec(value)
    LitMLP((4,), 3, optimizer=value)
    assert value == {"class_path": "sgd", "init_args": {"lr": 0.5}, "momentum": 0.9}
    assert DEFAULT_OPTIMIZER == {"name": "adam", "lr": 0.001}


def test_a_name_without_arguments_stays_a_name() -> None:
    assert short_form("cosine") == short_form({"name": "cosine"}) == "cosine"
    assert short_form(torch.optim.SGD) == "torch.optim.SGD"


@pytest.mark.parametrize("name", ["SGD", "sgd", "torch.optim.SGD", "torch.optim.sgd"])
def test_names_ignore_case(name: str) -> None:
    assert type(build_optimizer({"name": name, "lr": 0.1}, [torch.nn.Parameter(torch.zeros(1))])) is torch.optim.SGD


@pytest.mark.parametrize("name", [*OPTIMIZERS, "NAdam", "RAdam", "torch.optim.Adamax", "torch.optim.Muon"])
def test_every_optimizer_learns(trainer: Any, loader: Any, blobs: Any, name: str) -> None:
    lr = {"adadelta": 1.0, "lbfgs": 1.0}.get(name, 0.05)
    more = {"head_lr": 0.1} if name == "muon" else {}
    model = LitMLP((4,), 3, hidden=(16, 16), optimizer={"name": name, "lr": lr, **more})
    if name == "torch.optim.Muon":  # takes matrices only; its error becomes a user error
        with pytest.raises(MisconfigurationException, match=r"optimizer: Muon\(.*2D"):
            trainer().fit(model, loader(*blobs, batch_size=30))
        return
    run = trainer(max_epochs=10)
    run.fit(model, loader(*blobs, batch_size=90 if name == "lbfgs" else 30))
    assert run.callback_metrics["train/loss"] < 0.7


def test_momentum_and_nesterov_set_their_arguments() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1))]
    group = build_optimizer({"name": "nesterov", "lr": 0.1}, weights).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.9, True)
    group = build_optimizer({"name": "momentum", "lr": 0.1, "momentum": 0.5}, weights).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.5, False)


def test_the_fused_implementation_is_used_unless_the_spec_chooses_another() -> None:
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
        ({"optimizer": {"name": "adam", "lr": -1.0}}, r"optimizer: Adam\(lr=-1.0\) failed: Invalid learning rate"),
        ({"optimizer": "adm"}, r"optimizer: unknown name 'adm'. Did you mean adam\?"),
        ({"optimizer": {"name": "adam", "learning": 1}}, r"optimizer: adam has no argument 'learning'"),
        ({"optimizer": {"name": "adam", "weightdecay": 1}}, r"Did you mean weight_decay\?"),
        ({"optimizer": {"name": "adam", "lr": "fast"}}, r"optimizer: adam: lr must be a number, got lr='fast'"),
        ({"optimizer": {"name": "adam", "lr": float("nan")}}, r"lr must be a finite number, got nan"),
        ({"optimizer": {"lr": 0.1}}, r"optimizer: got lr=0.1 without a name. .*--model.optimizer.name NAME"),
        ({"optimizer": {"name": "sgd", "class_path": "adam"}}, r"both name='sgd' and class_path='adam'"),
        ({"optimizer": "torch.optim.Adan"}, r"torch.optim has no class 'Adan'. Did you mean Adam\?"),
        ({"optimizer": "torch.nn.Linear"}, r"optimizer must be a subclass of torch.optim.*, got torch.nn.Linear"),
        ({"optimizer": "nowhere.at.All"}, r"'nowhere.at.All' cannot be imported"),
        ({"optimizer": lambda p: torch.optim.SGD(p)}, r"optimizer must be a name, .*, got a function"),
        ({"optimizer": 3}, r"optimizer must be a name or a dictionary .*, got 3"),
        ({"loss": "mse"}, r"loss must be one of cross_entropy.*, got 'mse'"),
        ({"loss": "cross_entrpy"}, r"Did you mean cross_entropy\?"),
        ({"loss": {"name": "cross_entropy", "label_smoothing": 3.0}}, r"label_smoothing must be from 0 to 1, got 3.0"),
        ({"init": "xavier"}, r"init: unknown name 'xavier'. Did you mean xavier"),
        ({"init": {"name": "normal", "sd": 1}}, r"normal has no argument 'sd'. Did you mean std\?"),
        ({"activation": "rely"}, r"activation: unknown name 'rely'. Did you mean relu\?"),
        ({"metrics": ["acc", "f2"]}, r"metrics: unknown name 'f2'. Did you mean f1\?"),
        ({"metrics": "acc"}, r"metrics must be a list of names, got 'acc'. Set metrics: \[acc\]"),
        ({"metrics": ["top5"]}, r"'top5' is always 1 with 3 classes"),
        ({"l2": -0.1}, r"l2 must be 0 \(off\) or a positive number, got -0.1"),
        ({"hidden": (0,)}, r"hidden must be a list of positive integers, got \(0,\)"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and below 1, got 1.0"),
    ],
)
def test_building_a_model_with_a_wrong_argument_raises_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message) as caught:
        LitMLP((4,), 3, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*ACTIVATIONS, "ELU", "torch.nn.Softplus"])
def test_activations_by_name(name: str) -> None:
    values = build_activation(name)(torch.tensor([-1.0, 0.0, 2.0]))
    assert values.shape == (3,)
    assert values[2] > values[0]


def test_an_activation_takes_arguments() -> None:
    assert build_activation("leaky_relu")(torch.tensor(-1.0)) == pytest.approx(-0.01)
    assert build_activation({"name": "leaky_relu", "negative_slope": 0.5})(torch.tensor(-1.0)) == pytest.approx(-0.5)

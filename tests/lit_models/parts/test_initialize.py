"""Weights that a user loaded or set stay as they are, and `init` by name replaces them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lit_models import LitClassifier, LitMLP


class Scaled(nn.Module):
    """A layer of the user's own with parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.full((4, 4), 0.25))
        self.scale = nn.Parameter(torch.full((4,), 3.0))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix * self.scale


def filled() -> nn.Module:
    layer = nn.Linear(4, 3)
    nn.init.constant_(layer.weight, 0.5)
    return layer


def filled_data() -> nn.Module:
    layer = nn.Linear(4, 3)
    layer.weight.data.fill_(0.5)
    return layer


def loaded() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(3))
    network(torch.zeros(1, 1, 8, 8))
    network.load_state_dict({k: torch.full_like(v, 2) for k, v in network.state_dict().items()})
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "filled": filled,
    "filled through .data": filled_data,
    "loaded": loaded,
    "own layer": lambda: nn.Sequential(Scaled(), nn.PReLU(), nn.RMSNorm(4), nn.Linear(4, 3)),
    "plain": lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.LSTM(8, 3)),
}


@pytest.mark.parametrize("init", ["default", "torch"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_users_weights_are_kept_without_a_named_initialization(name: str, init: str) -> None:
    network = NETWORKS[name]()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()
    assert LitClassifier((4,), 3, init=init).initialized(network) is network
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random), "nothing is drawn, so that the run does not change"


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_named_initialization_replaces_matrices_and_biases_but_no_scales(name: str) -> None:
    network = LitClassifier((4,), 3, init="ones").initialized(NETWORKS[name]())
    for key, value in network.named_parameters():
        if value.dim() >= 2:
            assert bool((value == 1).all()), key
        elif "bias" in key:
            assert not value.any(), key
    if name == "own layer":
        values = dict(network.named_parameters())
        assert values["0.scale"].tolist() == [3.0] * 4
        assert values["1.weight"].tolist() == [0.25]
        assert values["2.weight"].tolist() == [1.0] * 4


def test_fresh_networks_get_litlabs_default() -> None:
    torch.manual_seed(0)
    layer = LitClassifier((4,), 3).initialized(nn.Linear(4, 3), fresh=True)
    torch.manual_seed(0)
    reference: Any = nn.Linear(4, 3)
    nn.init.xavier_uniform_(reference.weight)
    nn.init.uniform_(reference.bias, -0.5, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), reference.parameters(), strict=True))


def test_litlabs_own_models_start_with_its_default() -> None:
    torch.manual_seed(0)
    model = LitMLP((4,), 3, hidden=(8,))
    torch.manual_seed(0)
    reference = [nn.Linear(4, 8), nn.Linear(8, 3)]
    for layer in reference:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.uniform_(layer.bias, -(layer.in_features**-0.5), layer.in_features**-0.5)
    weights = [parameter for layer in reference for parameter in layer.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))

"""Tests that callbacks do not change training: weights are bitwise equal with and without them."""

import random

import numpy as np
import pytest
import torch

import callbacks
from callbacks.forward import isolated_forward

_ALL = {
    "Activations": callbacks.Activations,
    "ChartLayout": callbacks.ChartLayout,
    "ClassificationEvidence": callbacks.ClassificationEvidence,
    "DecisionRegions": callbacks.DecisionRegions,
    "Embeddings": callbacks.Embeddings,
    "FeatureMaps": lambda: callbacks.FeatureMaps(gradients=True),
    "Gradients": lambda: callbacks.Gradients(2),
    "RegressionFigures": callbacks.RegressionFigures,
    "Weights": lambda: callbacks.Weights(1, 2),
    "BestCheckpoint": lambda: callbacks.BestCheckpoint("val/loss"),
    "ExactState": callbacks.ExactState,
    "StopSignals": callbacks.StopSignals,
    "FiniteLoss": callbacks.FiniteLoss,
    "SkipNotFinite": callbacks.SkipNotFinite,
    "GeneratedText": lambda: callbacks.GeneratedText(length=3),
    "HyperParameters": callbacks.HyperParameters,
    "LastCheckpoint": callbacks.LastCheckpoint,
    "ModelGraph": callbacks.ModelGraph,
    "ModelTable": callbacks.ModelTable,
    "PlainProgress": callbacks.PlainProgress,
    "PredictionWriter": lambda: callbacks.PredictionWriter("unused.csv"),
    "RunSettings": lambda: callbacks.RunSettings("a: 1"),
    "TerminalProgress": callbacks.TerminalProgress,
}


def _weights(make_trainer, small, data, chosen, **arguments):
    model = small()

    def generate(*prompt_and_rest, generator):
        random.random(), np.random.rand(), torch.rand(1)
        model(torch.rand(4, 2))  # in training mode, dropout would use random numbers here
        return torch.randint(9, (len(prompt_and_rest),), generator=generator)

    model.generate = generate
    data.encode = lambda text: [len(text)]
    data.decode = str
    make_trainer(chosen, **arguments).fit(model, data)
    return model.state_dict()


def test_every_public_callback_is_tested() -> None:
    public = {name for name in callbacks.__all__ if hasattr(getattr(callbacks, name), "on_fit_start")}
    # AveragedWeights changes the weights; AveragedViews needs images (both in test_averaging.py).
    assert public - {"AveragedWeights", "AveragedViews", "EndFigures", "Observer"} == set(_ALL)


@pytest.mark.filterwarnings("ignore:RegressionFigures")  # the targets are classes
@pytest.mark.parametrize("name", [*_ALL, "all"])
def test_weights_are_equal_with_and_without_the_callback(make_trainer, small, blobs, name) -> None:
    chosen = [name] if name != "all" else [each for each in _ALL if each != "TerminalProgress"]
    plain = _weights(make_trainer, small, blobs(), [], folder="plain")
    watched = _weights(make_trainer, small, blobs(), [_ALL[each]() for each in chosen], folder="w", tensorboard=True)
    assert all(torch.equal(plain[key], watched[key]) for key in plain)


def test_isolated_forward_restores_states_after_an_error(small) -> None:
    model = small()
    model.net[2].eval()
    modes = [module.training for module in model.modules()]
    states = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())

    def fail() -> None:
        assert not any(module.training for module in model.modules())
        random.random(), np.random.rand(), torch.rand(1)
        raise KeyError("inside")

    with pytest.raises(KeyError), isolated_forward(model):
        fail()
    assert [module.training for module in model.modules()] == modes
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.is_grad_enabled()

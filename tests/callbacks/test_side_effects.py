"""No callback changes what is learnt: the weights are equal, bit for bit, with and without it."""

import random

import numpy as np
import pytest
import torch

import callbacks
from callbacks.forward import undisturbed

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
        model(torch.rand(4, 2))  # dropout would draw here in training mode
        return torch.randint(9, (len(prompt_and_rest),), generator=generator)

    model.generate = generate
    data.encode = lambda text: [len(text)]
    data.decode = str
    make_trainer(chosen, **arguments).fit(model, data)
    return model.state_dict()


def test_every_public_callback_is_here() -> None:
    public = {name for name in callbacks.__all__ if hasattr(getattr(callbacks, name), "on_fit_start")}
    # Averages are there to change the weights that are kept; views need images (test_averaging.py).
    assert public - {"AveragedWeights", "AveragedViews", "EndFigures"} == set(_ALL)


@pytest.mark.filterwarnings("ignore:RegressionFigures")  # these are classes
@pytest.mark.parametrize("name", [*_ALL, "all"])
def test_weights_are_the_same(make_trainer, small, blobs, name) -> None:
    chosen = [name] if name != "all" else [each for each in _ALL if each != "TerminalProgress"]
    plain = _weights(make_trainer, small, blobs(), [], folder="plain")
    watched = _weights(make_trainer, small, blobs(), [_ALL[each]() for each in chosen], folder="w", tensorboard=True)
    assert all(torch.equal(plain[key], watched[key]) for key in plain)


def test_undisturbed_puts_everything_back_after_an_error(small) -> None:
    model = small()
    model.net[2].eval()
    modes = [module.training for module in model.modules()]
    states = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())

    def fail() -> None:
        assert not any(module.training for module in model.modules())
        random.random(), np.random.rand(), torch.rand(1)
        raise KeyError("inside")

    with pytest.raises(KeyError), undisturbed(model):
        fail()
    assert [module.training for module in model.modules()] == modes
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.is_grad_enabled()

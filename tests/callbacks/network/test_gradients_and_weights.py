"""Tests of norms, ratios and dead units against values computed by hand."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from callbacks import Activations, Gradients, Weights
from callbacks.network.activations import dead_share


def _events(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
    events.Reload()
    return events


class ByHand(Callback):
    """Gradients and weights around each step, computed without the callbacks under test."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.first: list[float] = []
        self.clipped: list[float] = []
        self.ratios: list[float] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        parameters = list(pl_module.parameters())
        self.norms.append(sum(float((p.grad**2).sum()) for p in parameters) ** 0.5)
        self.first.append(float((parameters[0].grad ** 2).sum()) ** 0.5)
        self.before = parameters[0].detach().clone()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        parameters = list(pl_module.parameters())
        self.clipped.append(sum(float((p.grad**2).sum()) for p in parameters) ** 0.5)
        moved = float(((parameters[0].detach() - self.before) ** 2).sum()) ** 0.5
        self.ratios.append(moved / float((self.before**2).sum()) ** 0.5)


def test_norms_equal_those_computed_by_hand(make_trainer, small, blobs, tmp_path) -> None:
    by_hand = ByHand()
    chosen = [by_hand, Gradients(every_n_steps=4), Weights(every_n_steps=4)]
    make_trainer(chosen, tensorboard=True, gradient_clip_val=0.05).fit(small(), blobs())  # 12 steps
    events = _events(tmp_path / "run")
    for tag, expected in (
        ("grad_norm/total", by_hand.norms),
        ("grad_norm/0.weight", by_hand.first),
        ("grad_norm/clipped", by_hand.clipped),
        ("update_ratio/0.weight", by_hand.ratios),
    ):
        found = events.Scalars(tag)
        assert [event.step for event in found] == [0, 4, 8]
        assert [event.value for event in found] == pytest.approx([expected[i] for i in (0, 4, 8)], rel=1e-4)
    assert max(by_hand.clipped) <= 0.0501 < min(by_hand.norms)
    histograms = events.Tags()["histograms"]
    assert {"gradients/0.weight", "gradients/3.bias", "weights/0.weight"} <= set(histograms)
    assert [event.step for event in events.Histograms("gradients/0.weight")] == [0, 4, 8]
    assert events.Histograms("gradients/0.weight")[0].histogram_value.num == 16
    assert [event.step for event in events.Histograms("weights/0.weight")] == [5, 11]
    assert not any(tag.startswith("update_ratio/") and tag.endswith("bias") for tag in events.Tags()["scalars"])


def test_without_clipping_there_is_no_clipped_norm(make_trainer, small, blobs, tmp_path) -> None:
    logger = CSVLogger(str(tmp_path), name="csv", version="")
    make_trainer([Gradients(histograms=False)], logger=logger).fit(small(), blobs())
    header = (tmp_path / "csv" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert "grad_norm/total" in header
    assert "grad_norm/clipped" not in header


def test_the_histogram_counts_every_finite_value(tmp_path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    from callbacks.network.histograms import add_histogram

    values = torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.0, float("nan"), float("inf")])
    with SummaryWriter(str(tmp_path)) as writer:
        assert add_histogram(writer, "mixed", values, 3)
        assert add_histogram(writer, "constant", torch.full((5,), 2.0), 0)
        assert not add_histogram(writer, "nothing", torch.tensor([float("nan")]), 0)
    events = _events(tmp_path)
    found = events.Histograms("mixed")[0].histogram_value
    assert (found.min, found.max, found.num, found.sum) == (-3.0, 2.0, 5.0, -1.5)
    assert sum(found.bucket) == 5
    assert sum(events.Histograms("constant")[0].histogram_value.bucket) == 5
    assert set(events.Tags()["histograms"]) == {"mixed", "constant"}


@pytest.mark.parametrize(("shape", "axis"), [((6, 4), None), ((6, 4, 3, 3), None)])
def test_dead_units_are_zero_for_every_sample(shape, axis) -> None:
    output = torch.rand(shape)
    output[:, 1] = 0.0
    output[:, 3] = -1.0
    assert dead_share(output) == 0.5
    output[2, 1] = 0.1
    assert dead_share(output) == 0.25


def test_a_dead_relu_is_counted(make_trainer, small, blobs, tmp_path) -> None:
    model = small(lr=0.0, hidden=(8,))
    with torch.no_grad():
        model.net[0].bias[:6] = -100.0
        model.net[0].bias[6:] = 100.0
    make_trainer([Activations()], tensorboard=True).fit(model, blobs())
    events = _events(tmp_path / "run")
    found = events.Scalars("dead_units/1")
    assert [event.value for event in found] == [0.75, 0.75]
    assert [event.step for event in found] == [5, 11]
    assert [event.step for event in events.Histograms("activations/1")] == [5, 11]


def test_parameter_names_have_no_prefix(make_trainer, small, blobs, tmp_path) -> None:
    from collections import OrderedDict

    model = small()
    layers = {"entry": nn.Linear(2, 8), "bend": nn.ReLU(), "exit": nn.Linear(8, 3)}
    model.net = nn.Sequential(OrderedDict(layers))
    make_trainer([Gradients(), Weights(), Activations()], tensorboard=True).fit(model, blobs())
    tags = _events(tmp_path / "run").Tags()
    assert {"grad_norm/entry.weight", "update_ratio/exit.weight", "dead_units/bend"} <= set(tags["scalars"])
    assert {"weights/entry.bias", "gradients/exit.weight", "activations/bend"} <= set(tags["histograms"])


@pytest.mark.parametrize("make", [Gradients, Weights, Activations])
def test_nothing_is_logged_under_fast_dev_run(make_trainer, small, blobs, tmp_path, make) -> None:
    make_trainer([make()], tensorboard=True, fast_dev_run=True).fit(small(), blobs())
    assert not list(tmp_path.rglob("events.*"))


def test_a_wrong_layer_gives_a_warning_with_the_closest_name(make_trainer, small, blobs, tmp_path) -> None:
    with pytest.warns(UserWarning, match=r"no layer 'net\.11'.*Did you mean 1\?|no layer '11'.*Did you mean 1\?"):
        make_trainer([Activations(layers=["11", "1"])], tensorboard=True).fit(small(), blobs())
    assert "activations/1" in _events(tmp_path / "run").Tags()["histograms"]


@pytest.mark.parametrize("make", [lambda: Gradients(0), lambda: Weights(0), lambda: Activations(None, 0)])
def test_an_interval_of_zero_raises_an_error(make) -> None:
    with pytest.raises(MisconfigurationException, match="1 or more"):
        make()

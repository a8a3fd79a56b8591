"""Tests of the callbacks in unusual trainings: correct metrics, and no figure that ends training."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.plugins import MixedPrecision
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from callbacks import (
    Activations,
    ClassificationEvidence,
    DecisionRegions,
    Embeddings,
    FeatureMaps,
    Gradients,
    RegressionFigures,
    Weights,
)
from callbacks.figures.mosaic import resized
from callbacks.network.activations import dead_share, follows_conv1d, lowest_output
from callbacks.network.layers import capture_outputs, named_layers

EVERY = (
    lambda: FeatureMaps(gradients=True),
    Gradients,
    Weights,
    Activations,
    ClassificationEvidence,
    RegressionFigures,
    DecisionRegions,
    Embeddings,
)


def scalars(folder: Any, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


class FirstEvaluation(Callback):
    """Norm of the first gradient of each optimizer step, and relative update of the first weight."""

    def __init__(self) -> None:
        self.norms: dict[int, float] = {}
        self.before: dict[int, Tensor] = {}
        self.ratios: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.start = next(pl_module.parameters()).detach().clone()

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        squares = sum(float((p.grad**2).sum()) for p in pl_module.parameters() if p.grad is not None)
        self.norms.setdefault(trainer.global_step, squares**0.5)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        moved = next(pl_module.parameters()).detach() - self.start
        self.ratios.append(float(moved.norm() / self.start.norm()))


def test_lbfgs_logs_the_first_evaluation_and_the_update_of_the_step(make_trainer, small, blobs, tmp_path) -> None:
    class WithLBFGS(type(small())):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.LBFGS(self.parameters(), lr=0.5, max_iter=5)

    by_hand = FirstEvaluation()
    make_trainer([by_hand, Gradients(2), Weights(1, 2)], tensorboard=True).fit(WithLBFGS(), blobs())
    expected = [(step, pytest.approx(by_hand.norms[step], rel=1e-4)) for step in (0, 2, 4, 6, 8, 10)]
    assert scalars(tmp_path / "run", "grad_norm/total") == expected
    ratios = [pytest.approx(by_hand.ratios[step], rel=1e-4) for step in (0, 2, 4, 6, 8, 10)]
    assert [value for _, value in scalars(tmp_path / "run", "update_ratio/0.weight")] == ratios


def test_float16_gradients_are_logged_without_the_loss_scale(make_trainer, small, blobs, tmp_path) -> None:
    class Fused(type(small())):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0, fused=True)

    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    make_trainer([Gradients(1)], tensorboard=True, plugins=[plugin]).fit(Fused(), blobs())
    found = [value for _, value in scalars(tmp_path / "run", "grad_norm/total")]
    finite = [value for value in found if math.isfinite(value)]  # the scaler skips some steps
    assert len(finite) >= 8
    assert all(0 < value < 50 for value in finite), str(found)


def test_accumulated_gradients_are_logged_once_per_step(make_trainer, small, blobs, tmp_path) -> None:
    by_hand = FirstEvaluation()
    make_trainer([by_hand, Gradients(1)], tensorboard=True, accumulate_grad_batches=4).fit(small(), blobs())
    found = scalars(tmp_path / "run", "grad_norm/total")
    assert found == [(step, pytest.approx(norm, rel=1e-4)) for step, norm in by_hand.norms.items()]
    assert len(found) == 4  # two epochs of six batches


def test_layers_with_equal_short_names_keep_their_prefix(make_trainer, small, blobs, tmp_path) -> None:
    class TwoHeads(type(small())):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(2, 4)
            self.net = nn.ModuleDict({"body": nn.Linear(4, 3)})

        def forward(self, x: Tensor) -> Tensor:
            return self.net["body"](self.body(x))

    by_hand = FirstEvaluation()
    make_trainer([by_hand, Gradients(1)], tensorboard=True, max_epochs=1).fit(TwoHeads(), blobs())
    run = tmp_path / "run"
    total = [value for _, value in scalars(run, "grad_norm/total")]
    assert total == pytest.approx(list(by_hand.norms.values()), rel=1e-4)
    for tag in ("grad_norm/net.body.weight", "grad_norm/body.weight"):
        assert len(scalars(run, tag)) == 6, tag


def test_the_final_state_is_logged_if_max_steps_ends_the_run(make_trainer, small, blobs, tmp_path) -> None:
    callbacks = [Activations(every_n_epochs=5), Weights(every_n_epochs=5), FeatureMaps(every_n_epochs=5)]
    make_trainer(callbacks, tensorboard=True, max_epochs=20, max_steps=14).fit(small(), blobs())
    assert [step for step, _ in scalars(tmp_path / "run", "dead_units/1")] == [13]
    assert len(list((tmp_path / "run/figures/feature_maps").rglob("*.png"))) == 2  # two linear layers, once each


def test_dead_share_with_other_axes_and_lowest_outputs() -> None:
    rows = torch.rand(5, 7, 4) + 0.1
    rows[..., 2] = 0.0
    assert dead_share(rows, axis=-1) == 0.25
    assert dead_share(torch.full((5, 4), -0.5), lowest_output(nn.Hardtanh())) == 0.0
    assert dead_share(torch.full((5, 4), -1.0), lowest_output(nn.Hardtanh())) == 1.0
    assert dead_share(torch.full((5, 4), 0.5), lowest_output(nn.Threshold(0.1, 0.5))) == 1.0
    assert dead_share(torch.full((5, 4), float("nan"))) != 0.0


class Sequences(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(20, 6), nn.ReLU())
        self.loss = nn.MSELoss()


def test_the_layer_before_a_relu_is_found() -> None:
    module = Sequences()
    assert follows_conv1d(module, "1")
    assert not follows_conv1d(module, "4")
    assert list(named_layers(module)) == ["0", "1", "2", "3", "4"]


def test_a_layer_called_twice_gives_two_outputs() -> None:
    relu = nn.ReLU()
    with capture_outputs({"relu": relu}) as outputs:
        relu(torch.tensor([-1.0]))
        relu(torch.tensor([2.0]))
    assert {name: value.item() for name, value in outputs.items()} == {"relu": 0.0, "relu#2": 2.0}


def test_a_large_map_is_averaged() -> None:
    values = torch.zeros(100, 100)
    values[51] = 1.0
    (shown,) = resized(values[None], 72)
    assert shown.shape == (72, 72)
    assert shown.max() > 0.4
    enlarged = torch.eye(3).repeat_interleave(24, 0).repeat_interleave(24, 1)
    assert torch.equal(resized(torch.eye(3)[None], 72)[0], enlarged)
    assert min(resized(torch.rand(1, 1, 512), 560)[0].shape) >= 10


class Odd(Dataset[Any]):
    """Dataset whose batches are not (inputs, classes)."""

    def __init__(self, form: str) -> None:
        self.form = form

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        x, y = torch.rand(4), torch.tensor(index % 2)
        return {"dict": {"x": x, "y": y}, "three": (x, y, index), "bytes": (x, y.to(torch.uint8))}[self.form]


class Foreign(LightningModule):
    """Model for these batches with Lightning's default `predict_step`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)

    def forward(self, x: Any) -> Any:
        return self.last(self.relu(self.first(x["x"] if isinstance(x, dict) else x))), "more"

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = (batch["x"], batch["y"]) if isinstance(batch, dict) else batch[:2]
        return nn.functional.cross_entropy(self(x)[0], y.long())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.training_step(batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("form", ["dict", "three", "bytes"])
@pytest.mark.parametrize("make", EVERY)
def test_figures_do_not_end_the_training_of_an_unusual_model(make_trainer, tmp_path, make, form) -> None:
    trainer = make_trainer([make()], tensorboard=True)
    trainer.fit(Foreign(), DataLoader(Odd(form), batch_size=4), DataLoader(Odd(form), batch_size=4))
    assert trainer.current_epoch == trainer.max_epochs


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_failed_figure_gives_a_warning(make_trainer, tmp_path) -> None:
    trainer = make_trainer([ClassificationEvidence()], tensorboard=True)
    with pytest.warns(UserWarning, match="ClassificationEvidence: could not create the figures of val .*skipping it"):
        trainer.fit(Foreign(), DataLoader(Odd("three"), batch_size=4), DataLoader(Odd("three"), batch_size=4))


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_figures_in_other_precisions(make_trainer, small, blobs, tmp_path, precision) -> None:
    every = [make() for make in EVERY if make is not RegressionFigures]
    make_trainer(every, tensorboard=True, precision=precision).fit(small(), blobs())
    drawn = {path.name for path in (tmp_path / "run/figures/val").iterdir()}
    assert {"confusion_matrix.png", "decisions.png"} <= drawn
    assert list((tmp_path / "run").rglob("tensors.tsv"))

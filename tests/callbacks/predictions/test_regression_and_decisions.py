"""Tests of figures of regressions, and of classifiers with one or two inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks import DecisionRegions, RegressionFigures
from callbacks.predictions.decision_regions import decision_changes, straight_boundary
from callbacks.predictions.regression_figures import r2


class Data(LightningDataModule):
    class_names = ("below", "above")

    def __init__(self, x: Tensor, y: Tensor, validation: bool = True) -> None:
        super().__init__()
        self.loader = DataLoader(TensorDataset(x, y), batch_size=16)
        self.validation = validation

    def train_dataloader(self) -> Any:
        return self.loader

    def val_dataloader(self) -> Any:
        return self.loader if self.validation else []

    test_dataloader = train_dataloader


class Linear(LightningModule):
    """Linear regression, or two classes from one logit."""

    def __init__(self, weight: list[list[float]], bias: list[float], classes: bool = False, nan: bool = False) -> None:
        super().__init__()
        self.net = nn.Linear(len(weight[0]), len(weight))
        with torch.no_grad():
            self.net.weight.copy_(torch.tensor(weight))
            self.net.bias.copy_(torch.tensor(bias))
        self.classes, self.nan = classes, nan
        self.example_input_array = torch.zeros(1, len(weight[0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, _: int) -> Tensor:
        return 0.0 * self(batch[0]).sum()

    def validation_step(self, batch: Any, _: int) -> None:
        self(batch[0])

    test_step = validation_step

    def predict_step(self, batch: Any, _: int) -> dict[str, Tensor]:
        x, y = batch if isinstance(batch, (list, tuple)) else (batch, None)
        output = self(x)
        if self.nan:
            output[:3] = float("nan")
        found = {"prediction": output}
        if self.classes:
            p = output.sigmoid()
            found = {"prediction": (output[:, 0] > 0).long(), "probabilities": torch.cat((1 - p, p), dim=1)}
        return found if y is None else {**found, "target": y}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def figures(tmp_path) -> set[str]:
    return {str(path.relative_to(tmp_path / "run/figures")) for path in (tmp_path / "run/figures").rglob("*.png")}


def test_the_fitted_curve_is_plotted_for_one_input(make_trainer, tmp_path) -> None:
    x = torch.linspace(0, 1, 48)[:, None]
    trainer = make_trainer([RegressionFigures()], tensorboard=True)
    trainer.fit(Linear([[2.0]], [1.0]), Data(x, 2 * x + 1))
    assert figures(tmp_path) == {"val/prediction.png", "val/residuals.png", "val/fitted_curve.png"}
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert set(events.Tags()["images"]) == {"val/prediction", "val/residuals", "val/fitted_curve"}
    trainer.test(Linear([[2.0]], [1.0]), Data(x, 2 * x), verbose=False)
    assert "test/residuals.png" in figures(tmp_path)


def test_several_and_many_targets(make_trainer, tmp_path) -> None:
    x = torch.rand(32, 2)
    make_trainer([RegressionFigures()]).fit(Linear([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), Data(x, x))
    assert figures(tmp_path) == {"val/prediction.png", "val/residuals.png"}
    with pytest.warns(UserWarning, match="plots the first 6 of 9 targets"):
        make_trainer([RegressionFigures()]).fit(Linear([[1.0, 0.0]] * 9, [0.0] * 9), Data(x, x.repeat(1, 5)[:, :9]))


def test_predictions_that_are_not_finite_are_counted(make_trainer, tmp_path) -> None:
    x = torch.rand(16, 1)
    with pytest.warns(UserWarning, match="3 predictions or targets are not finite"):
        make_trainer([RegressionFigures()]).fit(Linear([[1.0]], [0.0], nan=True), Data(x, x))
    assert "val/prediction.png" in figures(tmp_path)


def test_r2() -> None:
    target = torch.tensor([1.0, 2.0, 3.0]).numpy()
    assert r2(target, target) == 1.0
    assert r2(target.mean() + 0 * target, target) == 0.0
    assert r2(target, 0 * target) != r2(target, 0 * target)  # NaN: the target is constant


def test_boundaries_of_known_classifiers() -> None:
    def p(x: Tensor) -> Tensor:
        one = torch.sigmoid(4 * (x - 2.5)).reshape(-1, 1)
        return torch.cat((1 - one, one), dim=1)

    assert decision_changes(p, 0.0, 5.0) == [pytest.approx(2.5, abs=1e-5)]
    assert decision_changes(p, 3.0, 5.0) == []

    def plane(x: Tensor) -> Tensor:
        one = torch.sigmoid(2 * x[:, :1] - 3 * x[:, 1:] + 0.5)
        return torch.cat((1 - one, one), dim=1)

    grid = torch.cartesian_prod(torch.linspace(-2, 2, 60), torch.linspace(-2, 2, 60))
    assert straight_boundary(grid, plane(grid)[:, 1]) == "boundary 2 x0 -3 x1 +0.5 = 0"
    assert straight_boundary(grid, plane(grid**2)[:, 1]) == ""
    assert straight_boundary(grid, torch.sigmoid(20 * (grid[:, 0] - grid[:, 1]))).startswith("boundary 20 x0 -20 x1")
    far = 48 + 4 * torch.rand(3000, 2, generator=torch.Generator().manual_seed(0))
    assert straight_boundary(far, torch.sigmoid(far.sum(1) - 100)).startswith("boundary 1 x0 +1 x1 -100")
    bent = 3 * grid[:, 0] - 3 * grid[:, 1] + 5 * torch.relu(grid[:, 0] - 1)
    assert straight_boundary(grid, torch.sigmoid(bent)) == ""


@pytest.mark.parametrize("validation", [True, False])
def test_decisions_with_one_input(make_trainer, tmp_path, validation) -> None:
    x = torch.linspace(0, 5, 20)[:, None]
    data = Data(x, (x[:, 0] > 2.5).long(), validation)
    make_trainer([DecisionRegions()], tensorboard=True).fit(Linear([[4.0]], [-10.0], classes=True), data)
    assert figures(tmp_path) == {"val/decisions.png"}
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    (text,) = events.Tensors("val/boundary/text_summary")
    assert text.tensor_proto.string_val[0].decode() == "decision changes at 2.5"


def test_decisions_with_two_inputs(make_trainer, tmp_path) -> None:
    x = torch.rand(40, 2)
    data = Data(x, (x[:, 0] > x[:, 1]).long())
    make_trainer([DecisionRegions()]).fit(Linear([[9.0, -9.0]], [0.0], classes=True), data)
    assert figures(tmp_path) == {"val/decisions.png"}


def test_more_inputs_give_a_warning(make_trainer, tmp_path) -> None:
    x = torch.rand(16, 3)
    with pytest.warns(UserWarning, match="one or two numbers"):
        make_trainer([DecisionRegions()]).fit(
            Linear([[1.0, 0.0, 0.0]], [0.0], classes=True), Data(x, (x[:, 0] > 0).long())
        )
    assert not (tmp_path / "run/figures").exists()

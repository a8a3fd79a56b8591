"""Callback for figures of the predictions of a regression model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from sklearn.metrics import r2_score
from torch import Tensor

from callbacks.figures.plotting import PALETTE, figure, show
from callbacks.forward import isolated_forward
from callbacks.predictions.end_figures import EndFigures, concatenated
from callbacks.trainer_state import last_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TARGETS = 6  # maximum number of plotted targets
POINTS = 5000  # maximum number of points in a scatter plot


class RegressionFigures(EndFigures):
    """Figures of regression predictions at the end of fit (validation split, best weights), validate and test.

    | key              | what                                                         | when |
    |------------------|--------------------------------------------------------------|------|
    | val/prediction   | prediction against target of each output, with R²            | end  |
    | val/residuals    | histogram of prediction minus target                         | end  |
    | val/fitted_curve | prediction and data over the input, if it is a single number | end  |

    After validate and test, the keys start with `validate/` and `test/`. The figures are also saved in figures/. The
    model's `predict_step` must return `prediction` and `target`, as in litlab's regressors.
    """

    unsupported = "predict_step of {} must return `prediction` (floating point) and `target`. Return both"

    def add(self, collected: Any, inputs: Tensor, output: dict[str, Tensor]) -> Any:
        prediction, target = output.get("prediction"), output.get("target")
        if prediction is None or target is None or not prediction.is_floating_point():
            return None
        batch = tuple(x.detach().float().cpu().reshape(len(inputs), -1) for x in (inputs, prediction, target))
        return [*(collected or []), batch]

    def plot(self, trainer: Trainer, module: LightningModule, stage: str, gathered: list[Any]) -> None:
        inputs, prediction, target = concatenated(gathered)
        if prediction.shape != target.shape:
            shapes = f"{tuple(prediction.shape)} and {tuple(target.shape)}"
            rank_zero_warn(f"RegressionFigures: predictions and targets must have equal shapes, got {shapes}.")
            return
        finite = torch.isfinite(prediction).all(dim=1) & torch.isfinite(target).all(dim=1)
        if not bool(finite.all()):
            rank_zero_warn(f"{int((~finite).sum()):,} predictions or targets are not finite; the figures omit them.")
            inputs, prediction, target = inputs[finite], prediction[finite], target[finite]
        if len(prediction) == 0:
            return
        if prediction.shape[1] > TARGETS:
            rank_zero_warn(f"RegressionFigures plots the first {TARGETS} of {prediction.shape[1]} targets.")
        self._show(trainer, module, stage, inputs, prediction, target)

    def _show(
        self, trainer: Trainer, module: LightningModule, stage: str, inputs: Tensor, prediction: Tensor, target: Tensor
    ) -> None:
        number, step = min(prediction.shape[1], TARGETS), last_step(trainer)
        columns = min(number, 3)
        size = (1.0 + 3.8 * columns, 0.4 + 3.8 * -(-number // columns))
        for name, plot in (("prediction", plot_prediction), ("residuals", plot_residuals)):
            with figure(*size) as fig:
                for index in range(number):
                    axes = fig.add_subplot(-(-number // columns), columns, index + 1)
                    plot(axes, prediction[:, index].numpy(), target[:, index].numpy())
                    if number > 1:
                        axes.set_title(f"target {index}: {axes.get_title()}")
                show(trainer, f"{stage}/{name}", fig, step, source=self.source)
        if inputs.shape[1] == 1:
            with figure() as fig:
                _plot_curve(fig.subplots(), trainer, module, inputs[:, 0], target[:, :number])
                show(trainer, f"{stage}/fitted_curve", fig, step, source=self.source)


def r2(prediction: Any, target: Any) -> float:
    """Return the coefficient of determination; NaN if the target is constant."""
    return float(r2_score(target, prediction)) if np.ptp(target) else float("nan")


def plot_prediction(axes: Axes, prediction: Any, target: Any) -> None:
    """Plot prediction against target as one point per sample; correct predictions are on the diagonal."""
    low, high = min(target.min(), prediction.min()), max(target.max(), prediction.max())
    axes.plot((low, high), (low, high), color="#AAAAAA", linewidth=1, linestyle=":")
    plotted = np.linspace(0, len(target) - 1, min(len(target), POINTS)).astype(int)
    axes.scatter(target[plotted], prediction[plotted], s=10, alpha=0.5, color=PALETTE[0], linewidths=0)
    axes.set(xlabel="target", ylabel="prediction", title=f"R² {r2(prediction, target):.4f}, n = {len(target):,}")


def plot_residuals(axes: Axes, prediction: Any, target: Any) -> None:
    """Plot a histogram of the residuals."""
    residuals = prediction - target
    width = max(float(np.ptp(residuals)), 1e-6 * float(np.abs(target).max()), 1e-12)  # above 0 if all are equal
    middle = 0.5 * (residuals.max() + residuals.min())
    bins = min(50, max(10, len(residuals) // 20))
    axes.hist(residuals, bins=bins, range=(middle - 0.5 * width, middle + 0.5 * width), color=PALETTE[0])
    axes.axvline(0.0, color="#AAAAAA", linewidth=1, linestyle=":")
    moments = f"mean {residuals.mean():.3g}, standard deviation {residuals.std():.3g}"
    axes.set(xlabel="prediction minus target", ylabel="samples", title=f"{moments}, R² {r2(prediction, target):.4f}")


def _plot_curve(axes: Axes, trainer: Trainer, module: LightningModule, inputs: Tensor, target: Tensor) -> None:
    low, high = float(inputs.min()), float(inputs.max())
    margin = 0.1 * (high - low) or 1.0
    x = torch.linspace(low - margin, high + margin, 400)
    shape = tuple(module.example_input_array.shape[1:]) if isinstance(module.example_input_array, Tensor) else (1,)
    with isolated_forward(module), torch.compiler.set_stance("force_eager"), trainer.precision_plugin.forward_context():
        curve = module(x.reshape(-1, *shape).to(module.device, module.dtype)).float().cpu().reshape(len(x), -1)  # type: ignore[arg-type]
    for index in range(target.shape[1]):
        label = f" {index}" if target.shape[1] > 1 else ""
        points: dict[str, Any] = {
            "s": 10,
            "alpha": 0.5,
            "linewidths": 0,
            "color": PALETTE[index],
            "label": f"data{label}",
        }
        axes.scatter(inputs, target[:, index], **points)
        axes.plot(x, curve[:, index], color=PALETTE[index + 1], label=f"prediction{label}")
    axes.axvspan(low, high, color="#F3F3F3", zorder=0, label="range of the data")
    axes.set(xlabel="input", ylabel="target", title="fitted curve")
    axes.legend()

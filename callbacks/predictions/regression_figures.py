"""Callback for figures of how well a regression fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from callbacks.figures.plotting import PALETTE, figure, show
from callbacks.forward import isolated_forward, predictions
from callbacks.predictions.end_figures import EndFigures
from callbacks.trainer_state import last_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 6  # maximum number of plotted targets
POINTS = 5000  # maximum number of points in a scatter plot


class RegressionFigures(EndFigures):
    """Figures of a regression's predictions at the end of fit (validation split, final weights), validate and test.

    | key              | what                                               | when |
    |------------------|----------------------------------------------------|------|
    | val/prediction   | prediction against target, with R2, per target     | end  |
    | val/residuals    | histogram of prediction minus target               | end  |
    | val/fitted_curve | prediction and data over an input of one number    | end  |

    After validate and test, the keys start with `validate/` and `test/`. The figures are also saved in figures/. Needs
    a model whose `predict_step` returns `prediction` and `target`, as litlab's regressors do.
    """

    def collect(self, trainer: Trainer, module: LightningModule, loaders: Any, limits: Any) -> Any:
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for inputs, found in predictions(trainer, module, loaders, limits):
            prediction, target = found.get("prediction"), found.get("target")
            if prediction is None or target is None or not prediction.is_floating_point():
                break
            x, found_y, y = (v.detach().float().cpu().reshape(len(inputs), -1) for v in (inputs, prediction, target))
            rows.append((x, found_y, y))
        return tuple(torch.cat(values) for values in zip(*rows, strict=True)) if rows else None

    def unsupported(self, module: LightningModule) -> str:
        return f"predict_step of {type(module).__name__} does not return numbers and targets; nothing is plotted."

    def plot(self, trainer: Trainer, module: LightningModule, stage: str, parts: list[Any]) -> None:
        inputs, prediction, target = (torch.cat(values) for values in zip(*parts, strict=True))
        if prediction.shape != target.shape:
            shapes = " and ".join("x".join(map(str, one.shape)) for one in (prediction, target))
            rank_zero_warn(
                f"RegressionFigures: predictions and targets differ in shape ({shapes}); nothing is plotted."
            )
            return
        finite = torch.isfinite(prediction).all(dim=1) & torch.isfinite(target).all(dim=1)
        if not bool(finite.all()):
            number = int((~finite).sum())
            rank_zero_warn(f"{number:,} predictions or targets are not finite; the figures omit them.")
            inputs, prediction, target = inputs[finite], prediction[finite], target[finite]
        if len(prediction) == 0:
            return
        if prediction.shape[1] > COLUMNS:
            rank_zero_warn(f"RegressionFigures plots the first {COLUMNS} of {prediction.shape[1]} targets.")
        self._show(trainer, module, stage, inputs, prediction, target)

    def _show(
        self, trainer: Trainer, module: LightningModule, stage: str, inputs: Tensor, prediction: Tensor, target: Tensor
    ) -> None:
        number, step = min(prediction.shape[1], COLUMNS), last_step(trainer)
        columns = min(number, 3)
        size = (1.0 + 3.8 * columns, 0.4 + 3.8 * -(-number // columns))
        panels: dict[str, Any] = {"prediction": plot_prediction, "residuals": plot_residuals}
        for name, plot in panels.items():
            with figure(*size) as made:
                grid = made.subplots(-(-number // columns), columns, squeeze=False).flat
                for index, axes in enumerate(grid):
                    if index < number:
                        plot(axes, prediction[:, index].numpy(), target[:, index].numpy())
                        if number > 1:
                            axes.set_title(f"target {index}: {axes.get_title()}")
                    else:
                        axes.set_axis_off()
                show(trainer, f"{stage}/{name}", made, step)
        if inputs.shape[1] == 1:
            with figure() as made:
                _plot_curve(made.subplots(), trainer, module, inputs[:, 0], target[:, :number])
                show(trainer, f"{stage}/fitted_curve", made, step)


def r2(prediction: Any, target: Any) -> float:
    """Return the coefficient of determination; NaN if the target is constant."""
    total = float(((target - target.mean()) ** 2).sum())
    return 1 - float(((target - prediction) ** 2).sum()) / total if total else float("nan")


def plot_prediction(axes: Axes, prediction: Any, target: Any) -> None:
    """Plot prediction against target, one point per sample; correct predictions are on the diagonal."""
    low, high = min(target.min(), prediction.min()), max(target.max(), prediction.max())
    axes.plot((low, high), (low, high), color="#AAAAAA", linewidth=1, linestyle=":")
    some = np.linspace(0, len(target) - 1, min(len(target), POINTS)).astype(int)
    axes.scatter(target[some], prediction[some], s=10, alpha=0.5, color=PALETTE[0], linewidths=0)
    axes.set(xlabel="target", ylabel="prediction", title=f"R² {r2(prediction, target):.4f}, n = {len(target):,}")


def plot_residuals(axes: Axes, prediction: Any, target: Any) -> None:
    """Plot a histogram of the residuals."""
    rest = prediction - target
    width = max(float(np.ptp(rest)), 1e-6 * float(np.abs(target).max()), 1e-12)  # also for equal residuals
    middle = 0.5 * (rest.max() + rest.min())
    bins = min(50, max(10, len(rest) // 20))
    axes.hist(rest, bins=bins, range=(middle - 0.5 * width, middle + 0.5 * width), color=PALETTE[0])
    axes.axvline(0.0, color="#AAAAAA", linewidth=1, linestyle=":")
    axes.set(
        xlabel="prediction minus target",
        ylabel="samples",
        title=f"mean {rest.mean():.3g}, standard deviation {rest.std():.3g}, R² {r2(prediction, target):.4f}",
    )


def _plot_curve(axes: Axes, trainer: Trainer, module: LightningModule, inputs: Tensor, target: Tensor) -> None:
    low, high = float(inputs.min()), float(inputs.max())
    margin = 0.1 * (high - low) or 1.0
    x = torch.linspace(low - margin, high + margin, 400)
    shape = tuple(module.example_input_array.shape[1:]) if isinstance(module.example_input_array, Tensor) else (1,)
    with isolated_forward(module), torch.compiler.set_stance("force_eager"), trainer.precision_plugin.forward_context():
        curve = module(x.reshape(-1, *shape).to(module.device, module.dtype)).float().cpu().reshape(len(x), -1)  # type: ignore[arg-type]
    for index in range(target.shape[1]):
        label = f" {index}" if target.shape[1] > 1 else ""
        axes.scatter(
            inputs, target[:, index], s=10, alpha=0.5, color=PALETTE[index], linewidths=0, label=f"data{label}"
        )
        axes.plot(x, curve[:, index], color=PALETTE[(index + 1) % len(PALETTE)], label=f"prediction{label}")
    axes.axvspan(low, high, color="#F3F3F3", zorder=0, label="range of the data")
    axes.set(xlabel="input", ylabel="target", title="fitted curve")
    axes.legend()

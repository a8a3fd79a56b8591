"""Callback that plots the decisions of a classifier of one or two numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.figures.plotting import PALETTE, class_line, figure, show
from callbacks.forward import isolated_forward, to_device
from callbacks.predictions.classification_evidence import class_names
from callbacks.predictions.end_figures import EndFigures, concatenated
from callbacks.trainer_state import last_step, tensorboard_writer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Probabilities = Callable[[Tensor], Tensor]
GRID = 240  # points along each axis


class DecisionRegions(EndFigures):
    """Decisions of a classifier with one or two inputs, at the end of fit, validate and test.

    | key           | what                                                                            | when |
    |---------------|---------------------------------------------------------------------------------|------|
    | val/decisions | one input: probabilities over the input; two inputs: regions, boundary and data | end  |
    | val/boundary  | where the decision changes (one input, or two and a straight boundary), in TEXT | end  |

    After validate and test, the keys start with `validate/` and `test/`. The figure is also saved in figures/. In fit
    it shows the best weights and the validation split, or the train split in a run without validation.
    """

    def fit_data(self, trainer: Trainer) -> tuple[Any, Any]:
        loaders, limits = super().fit_data(trainer)
        if not loaders or not sum(limits):
            return trainer.train_dataloader, [trainer.num_training_batches]
        return loaders, limits

    unsupported = "{} must be a classifier with one or two numbers as input. Use it with such a model"

    def add(self, collected: Any, inputs: Tensor, output: dict[str, Tensor]) -> Any:
        if "probabilities" not in output or "target" not in output or (len(inputs) and inputs[0].numel() > 2):
            return None
        batch = tuple(x.detach().cpu() for x in (inputs.float(), output["target"], output["probabilities"]))
        return [*(collected or []), batch]

    def plot(self, trainer: Trainer, module: LightningModule, stage: str, gathered: list[Any]) -> None:
        inputs, targets, predicted = concatenated(gathered)
        points = inputs.flatten(1)
        names = class_names(trainer, predicted.shape[1])

        def probabilities(x: Tensor) -> Tensor:
            batch = (x.reshape(-1, *inputs.shape[1:]), torch.zeros(len(x), dtype=targets.dtype))
            with isolated_forward(module), trainer.precision_plugin.forward_context():
                output: Any = module.predict_step(to_device(trainer, batch), 0)
            return output["probabilities"].float().cpu()  # type: ignore[no-any-return]

        with figure(6.8, 4.8, names) as fig:
            plot = plot_one_input if points.shape[1] == 1 else plot_two_inputs
            boundary = plot(fig.subplots(), points, targets, probabilities, names)
            show(trainer, f"{stage}/decisions", fig, last_step(trainer), source=self.source)
        writer = tensorboard_writer(trainer)
        if writer is not None and boundary:
            writer.add_text(f"{stage}/boundary", boundary, last_step(trainer))


def decision_changes(probabilities: Probabilities, low: float, high: float, points: int = 4000) -> list[float]:
    """Return the inputs at which the most probable class changes, found on a grid and by bisection."""
    x = torch.linspace(low, high, points, dtype=torch.float64)
    best = probabilities(x[:, None].float()).argmax(1)
    changes = torch.nonzero(best[1:] != best[:-1])[:, 0]
    left, right = x[changes], x[changes + 1]
    for _ in range(20 if len(changes) else 0):
        middle = 0.5 * (left + right)
        is_left = probabilities(middle[:, None].float()).argmax(1) == best[changes]
        left, right = torch.where(is_left, middle, left), torch.where(is_left, right, middle)
    return [float(value) for value in 0.5 * (left + right)]


def plot_one_input(
    axes: Axes, points: Tensor, targets: Tensor, probabilities: Probabilities, names: Sequence[str]
) -> str:
    """Plot the probability of each class (of class 1 if there are two) over the input. Return the boundary as text."""
    low, high = float(points.min()), float(points.max())
    margin = 0.15 * (high - low) or 1.0
    x = torch.linspace(low - margin, high + margin, 600)
    curves = probabilities(x[:, None])
    for index in [1] if len(names) == 2 else range(len(names)):
        axes.plot(x, curves[:, index], label=f"P({names[index]})", **class_line(index))
    for index in range(len(names)):
        of_class = points[targets == index, 0]
        height = float(index == 1) if len(names) == 2 else -0.06
        axes.scatter(of_class, torch.full((len(of_class),), height), s=18, alpha=0.7, label=f"data: {names[index]}",
                     color=PALETTE[index % len(PALETTE)], linewidths=0)  # fmt: skip
    boundaries = decision_changes(probabilities, low - margin, high + margin)
    for value in boundaries[:10]:
        axes.axvline(value, color="#555555", linewidth=1, linestyle="--")
    listed = "; ".join(f"{value:.4g}" for value in boundaries[:10])
    title = f"decision changes at {listed}" if listed else "decision is the same for all inputs"
    axes.set(xlabel="input", ylabel="probability", ylim=(-0.1, 1.1), title=title)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return title


def plot_two_inputs(
    axes: Axes, points: Tensor, targets: Tensor, probabilities: Probabilities, names: Sequence[str]
) -> str:
    """Plot the most probable class, paler if it is less probable, with boundary and data. Return the boundary."""
    from matplotlib.colors import to_rgb

    low, high = points.min(0).values, points.max(0).values
    margin = 0.12 * (high - low).clamp(min=1e-6)
    x, y = (torch.linspace(float(a), float(b), GRID) for a, b in zip(low - margin, high + margin, strict=True))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
    predicted = probabilities(grid)
    best, colors = predicted.max(1), torch.tensor([to_rgb(PALETTE[i % len(PALETTE)]) for i in range(len(names))])
    strength = ((best.values - 1 / len(names)) / (1 - 1 / len(names)))[:, None]
    pixels = 1 - (1 - colors[best.indices]) * (0.1 + 0.4 * strength)
    edges = (float(x[0]), float(x[-1]), float(y[0]), float(y[-1]))
    axes.imshow(pixels.reshape(GRID, GRID, 3).numpy(), origin="lower", extent=edges, aspect="auto")
    if len(names) == 2:
        axes.contour(x, y, predicted[:, 1].reshape(GRID, GRID), levels=[0.5], colors="#333333", linewidths=1.5)
    else:
        axes.contour(x, y, best.indices.reshape(GRID, GRID).float(), levels=len(names) - 1, colors="#333333",
                     linewidths=0.8)  # fmt: skip
    for index, name in enumerate(names):
        of_class = points[targets == index]
        axes.scatter(of_class[:, 0], of_class[:, 1], s=16, color=PALETTE[index % len(PALETTE)], edgecolors="white",
                     linewidths=0.5, label=name)  # fmt: skip
    axes.grid(visible=False)
    accuracy = float((probabilities(points).argmax(1) == targets).float().mean())
    axes.set(xlabel="input 0", ylabel="input 1", title=f"{accuracy:.1%} of {len(points):,} points classified correctly")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return straight_boundary(grid, predicted[:, 1]) if len(names) == 2 else ""


def straight_boundary(points: Tensor, probabilities: Tensor) -> str:
    """Return the line `a x0 + b x1 + c = 0` as text if the log-odds are linear over all points `(N, 2)`, else ''.

    A plane is fitted to the points whose probability of class 1 `(N,)` is not 0 or 1 in float32. The decisions at all
    points must agree with the plane.
    """
    odds = torch.logit(probabilities.double())
    clear = odds.abs() < 9
    if int(clear.sum()) < 10:
        return ""
    columns = torch.cat((points.double(), torch.ones(len(points), 1, dtype=torch.float64)), dim=1)
    plane = torch.linalg.lstsq(columns[clear], odds[clear, None]).solution[:, 0]
    fitted = columns @ plane
    close = (fitted[clear] - odds[clear]).abs().max() <= 0.02 + 0.01 * odds[clear].abs().max()
    same_side = ((fitted > 0) == (odds > 0)) | (odds.abs() < 0.05)
    a, b, c = (0.0 if abs(value) < 1e-4 * float(plane.abs().max()) else value for value in plane.tolist())
    return f"boundary {a:.4g} x0 {b:+.4g} x1 {c:+.4g} = 0" if bool(close) and bool(same_side.all()) else ""

"""Callback that plots the decisions of a classifier with one or two inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.figures.plotting import PALETTE, class_line, figure, show
from callbacks.forward import isolated_forward, predictions, to_device
from callbacks.predictions.classification_evidence import class_names
from callbacks.predictions.end_figures import EndFigures
from callbacks.trainer_state import last_step, tensorboard_writer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Probabilities = Callable[[Tensor], Tensor]
GRID = 240  # points along each axis


class DecisionRegions(EndFigures):
    """Decisions of a classifier with one or two input numbers, at the end of fit, validate and test.

    | key           | what                                                                            | when |
    |---------------|---------------------------------------------------------------------------------|------|
    | val/decisions | one input: the probabilities over it; two: regions, boundary and data           | end  |
    | val/boundary  | where the decision changes (one input, or two and a straight boundary), in TEXT | end  |

    After validate and test, the keys start with `validate/` and `test/`. The figure is also saved in figures/. In fit
    it shows the final weights and the validation split, or the train split if there is no validation split.
    """

    def fit_data(self, trainer: Trainer) -> tuple[Any, Any]:
        loaders, limits = super().fit_data(trainer)
        if not loaders or not sum(limits):
            return trainer.train_dataloader, [trainer.num_training_batches]
        return loaders, limits

    def collect(self, trainer: Trainer, module: LightningModule, loaders: Any, limits: Any) -> Any:
        rows: list[tuple[Tensor, Tensor]] = []
        shape: tuple[int, ...] = ()
        classes = 0
        for inputs, found in predictions(trainer, module, loaders, limits):
            features = inputs[0].numel() if len(inputs) else 0
            if "probabilities" not in found or "target" not in found or features > 2:
                break
            classes, shape = found["probabilities"].shape[1], tuple(inputs.shape[1:])
            rows.append((inputs.detach().float().cpu().reshape(len(inputs), -1), found["target"].cpu()))
        if not rows:
            return None
        points, targets = (torch.cat(values) for values in zip(*rows, strict=True))
        return points, targets, shape, classes

    def unsupported(self, module: LightningModule) -> str:
        name = type(module).__name__
        return f"needs a classifier with one or two numbers as input; {name} is none here. Remove the callback."

    def plot(self, trainer: Trainer, module: LightningModule, stage: str, parts: list[Any]) -> None:
        points, targets = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        _, _, shape, classes = parts[0]
        names = class_names(trainer, classes)

        def probabilities(x: Tensor) -> Tensor:
            batch = to_device(trainer, (x.reshape(-1, *shape), torch.zeros(len(x), dtype=targets.dtype)))
            with isolated_forward(module), trainer.precision_plugin.forward_context():
                found = module.predict_step(batch, 0)
            values: Tensor = found["probabilities"].float().cpu()
            return values

        with figure(6.8, 4.8, names) as made:
            plot = plot_one_input if points.shape[1] == 1 else plot_two_inputs
            boundary = plot(made.subplots(), points, targets, probabilities, names)
            show(trainer, f"{stage}/decisions", made, last_step(trainer))
        writer = tensorboard_writer(trainer)
        if writer is not None and boundary:
            writer.add_text(f"{stage}/boundary", boundary, last_step(trainer))


def decision_changes(probabilities: Probabilities, low: float, high: float, points: int = 4000) -> list[float]:
    """Return the input values at which the most probable class changes, found on a grid and by bisection."""
    x = torch.linspace(low, high, points)
    best = probabilities(x[:, None]).argmax(1)
    found = []
    for index in torch.nonzero(best[1:] != best[:-1])[:, 0].tolist():
        left, right, before = float(x[index]), float(x[index + 1]), int(best[index])
        for _ in range(20):
            middle = 0.5 * (left + right)
            if int(probabilities(torch.tensor([[middle]])).argmax(1)) == before:
                left = middle
            else:
                right = middle
        found.append(0.5 * (left + right))
    return found


def plot_one_input(
    axes: Axes, points: Tensor, targets: Tensor, probabilities: Probabilities, names: Sequence[str]
) -> str:
    """Plot the probability of each class (of class 1 if there are two) over the input; return the boundary as text."""
    low, high = float(points.min()), float(points.max())
    margin = 0.15 * (high - low) or 1.0
    x = torch.linspace(low - margin, high + margin, 600)
    curves = probabilities(x[:, None])
    shown = [1] if len(names) == 2 else range(len(names))
    for index in shown:
        axes.plot(x, curves[:, index], label=f"P({names[index]})", **class_line(index))
    for index in range(len(names)):
        own = points[targets == index, 0]
        height = float(index == 1) if len(names) == 2 else -0.06
        axes.scatter(own, torch.full((len(own),), height), s=18, alpha=0.7, label=f"data: {names[index]}",
                     color=PALETTE[index % len(PALETTE)], linewidths=0)  # fmt: skip
    boundaries = decision_changes(probabilities, low - margin, high + margin)
    for value in boundaries[:10]:
        axes.axvline(value, color="#555555", linewidth=1, linestyle="--")
    title = "decision changes at " + ("; ".join(f"{value:.4g}" for value in boundaries[:10]) or "none within the data")
    axes.set(xlabel="input", ylabel="probability", ylim=(-0.1, 1.1), title=title)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return title


def plot_two_inputs(
    axes: Axes, points: Tensor, targets: Tensor, probabilities: Probabilities, names: Sequence[str]
) -> str:
    """Plot the most probable class, paler if it is less probable, with boundary lines and data; return the boundary."""
    from matplotlib.colors import to_rgb

    low, high = points.min(0).values, points.max(0).values
    margin = 0.12 * (high - low).clamp(min=1e-6)
    x, y = (torch.linspace(float(a), float(b), GRID) for a, b in zip(low - margin, high + margin, strict=True))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
    found = probabilities(grid)
    best, colors = found.max(1), torch.tensor([to_rgb(PALETTE[i % len(PALETTE)]) for i in range(len(names))])
    strength = ((best.values - 1 / len(names)) / (1 - 1 / len(names)))[:, None]
    pixels = 1 - (1 - colors[best.indices]) * (0.1 + 0.4 * strength)
    edges = (float(x[0]), float(x[-1]), float(y[0]), float(y[-1]))
    axes.imshow(pixels.reshape(GRID, GRID, 3).numpy(), origin="lower", extent=edges, aspect="auto")
    if len(names) == 2:
        axes.contour(x, y, found[:, 1].reshape(GRID, GRID), levels=[0.5], colors="#333333", linewidths=1.5)
    else:
        axes.contour(x, y, best.indices.reshape(GRID, GRID).float(), levels=len(names) - 1, colors="#333333",
                     linewidths=0.8)  # fmt: skip
    for index, name in enumerate(names):
        own = points[targets == index]
        axes.scatter(own[:, 0], own[:, 1], s=16, color=PALETTE[index % len(PALETTE)], edgecolors="white",
                     linewidths=0.5, label=name)  # fmt: skip
    axes.grid(visible=False)
    accuracy = float((probabilities(points).argmax(1) == targets).float().mean())
    axes.set(xlabel="input 0", ylabel="input 1", title=f"{accuracy:.1%} of {len(points):,} points classified correctly")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return straight_boundary(grid, found[:, 1]) if len(names) == 2 else ""


def straight_boundary(points: Tensor, probabilities: Tensor) -> str:
    """Return the line `a x0 + b x1 + c = 0` if the log-odds are linear over all points `(N, 2)`, else ''.

    A plane is fitted to the points whose probability of class 1 `(N,)` is not 0 or 1 in float32. The decision at all
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

"""Where a classifier of one or two numbers changes its mind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.figures.drawing import PALETTE, class_line, figure, show
from callbacks.forward import undisturbed
from callbacks.predictions.classification_evidence import class_names
from callbacks.predictions.end_figures import EndFigures
from callbacks.predictions.predict_all import predictions
from callbacks.trainer_state import last_step, tensorboard_writer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Probabilities = Callable[[Tensor], Tensor]
GRID = 240  # points along each axis


class DecisionRegions(EndFigures):
    """The decisions of a classifier whose inputs are one or two numbers, at the end of fit, validate and test.

    | key           | what                                                                                | when |
    |---------------|-------------------------------------------------------------------------------------|------|
    | val/decisions | one input: the probabilities over it; two: regions, boundary and data               | end  |
    | val/boundary  | where the decision changes (one input, or two and a straight boundary), in TEXT     | end  |

    After these commands the keys start with `validate/` and `test/`. The figure goes to figures/ too. In fit the
    weights are the last ones and the samples the validation part's, or the training part's where none is held out.
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

    def unfit(self, module: LightningModule) -> str:
        return f"it draws classifiers of one or two numbers, and {type(module).__name__} here is none. Leave it out."

    def draw(self, trainer: Trainer, module: LightningModule, stage: str, parts: list[Any]) -> None:
        points, targets = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        _, _, shape, classes = parts[0]
        names = class_names(trainer, classes)

        def probabilities(x: Tensor) -> Tensor:
            batch = x.reshape(-1, *shape), torch.zeros(len(x), dtype=targets.dtype)
            batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
            with undisturbed(module), trainer.precision_plugin.forward_context():
                found = module.predict_step(batch, 0)
            chances: Tensor = found["probabilities"].float().cpu()
            return chances

        with figure(6.8, 4.8, names) as made:
            draw = draw_one_input if points.shape[1] == 1 else draw_two_inputs
            words = draw(made.subplots(), points, targets, probabilities, names)
            show(trainer, f"{stage}/decisions", made, last_step(trainer))
        writer = tensorboard_writer(trainer)
        if writer is not None and words:
            writer.add_text(f"{stage}/boundary", words, last_step(trainer))


def changes(probabilities: Probabilities, low: float, high: float, points: int = 4000) -> list[float]:
    """Where along one input the most probable class changes, by a grid and bisection."""
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


def draw_one_input(
    axes: Axes, points: Tensor, targets: Tensor, probabilities: Probabilities, names: Sequence[str]
) -> str:
    """Probability of each class (of class 1, if there are two) over the input, the data above and below."""
    low, high = float(points.min()), float(points.max())
    room = 0.15 * (high - low) or 1.0
    x = torch.linspace(low - room, high + room, 600)
    curves = probabilities(x[:, None])
    shown = [1] if len(names) == 2 else range(len(names))
    for index in shown:
        axes.plot(x, curves[:, index], label=f"P({names[index]})", **class_line(index))
    for index in range(len(names)):
        own = points[targets == index, 0]
        height = float(index == 1) if len(names) == 2 else -0.06
        axes.scatter(own, torch.full((len(own),), height), s=18, alpha=0.7, label=f"data: {names[index]}",
                     color=PALETTE[index % len(PALETTE)], linewidths=0)  # fmt: skip
    places = changes(probabilities, low - room, high + room)
    for place in places[:10]:
        axes.axvline(place, color="#555555", linewidth=1, linestyle="--")
    words = "; ".join(f"{place:.4g}" for place in places[:10]) or "none within the data"
    axes.set(xlabel="input", ylabel="probability", ylim=(-0.1, 1.1), title=f"decision changes at {words}")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return f"decision changes at {words}"


def draw_two_inputs(
    axes: Axes, points: Tensor, targets: Tensor, probabilities: Probabilities, names: Sequence[str]
) -> str:
    """The most probable class everywhere, paler where it is less probable, boundary lines and the data."""
    from matplotlib.colors import to_rgb

    low, high = points.min(0).values, points.max(0).values
    room = 0.12 * (high - low).clamp(min=1e-6)
    x, y = (torch.linspace(float(a), float(b), GRID) for a, b in zip(low - room, high + room, strict=True))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
    found = probabilities(grid)
    best, colours = found.max(1), torch.tensor([to_rgb(PALETTE[i % len(PALETTE)]) for i in range(len(names))])
    strength = ((best.values - 1 / len(names)) / (1 - 1 / len(names)))[:, None]
    pixels = 1 - (1 - colours[best.indices]) * (0.1 + 0.4 * strength)
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
    right = float((probabilities(points).argmax(1) == targets).float().mean())
    axes.set(xlabel="input 0", ylabel="input 1", title=f"{right:.1%} of {len(points):,} points on their own side")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return straight_boundary(grid, found[:, 1]) if len(names) == 2 else ""


def straight_boundary(points: Tensor, chances: Tensor) -> str:
    """`a x0 + b x1 + c = 0` where the log-odds are linear over all points (N, 2); empty otherwise.

    A plane is fitted where the probabilities of class 1 (N,) are not yet 0 or 1 as far as float32 tells; on all points
    the decision must be the plane's.
    """
    odds = torch.logit(chances.double())
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

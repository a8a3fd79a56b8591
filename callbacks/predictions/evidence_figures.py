"""Figures of a classifier's predictions, with metrics from scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import (
    auc,
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_curve,
)

from callbacks.figures.plotting import PALETTE, SEQUENTIAL, class_line, shortened
from callbacks.figures.sample_images import plot_sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from callbacks.predictions.evidence import Evidence, TopSamples

MANY = 20  # with more classes only the worst are plotted one by one
FEW = 10  # number of curves then
Table = list[tuple[str, float, float, float, int]]


def counts(seen: Evidence, names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the confusion matrix: true classes in rows, predicted classes in columns."""
    found: np.ndarray[Any, np.dtype[np.int64]] = confusion_matrix(
        seen.targets.numpy(), seen.probabilities.argmax(1).numpy(), labels=np.arange(len(names))
    )
    return found


def report(seen: Evidence, names: Sequence[str]) -> Table:
    """Return name, precision, recall, F1 and number of samples of each class."""
    found = precision_recall_fscore_support(
        seen.targets.numpy(), seen.probabilities.argmax(1).numpy(), labels=np.arange(len(names)), zero_division=0.0
    )
    rows = zip(names, *found, strict=True)
    return [(name, float(p), float(r), float(f), int(n)) for name, p, r, f, n in rows]


def plot_confusion(made: Figure, seen: Evidence, names: Sequence[str]) -> None:
    """Plot the confusion matrix; colors are shares of a row, and counts are shown for up to 20 classes."""
    found = counts(seen, names)
    shares = found / np.maximum(found.sum(1, keepdims=True), 1)
    axes = made.subplots()
    image = axes.imshow(shares, cmap=SEQUENTIAL, vmin=0.0, vmax=1.0)
    axes.grid(visible=False)
    right, total = int(np.trace(found)), int(found.sum())
    axes.set(xlabel="predicted", ylabel="true", title=f"{right:,} of {total:,} right ({right / total:.2%})")
    if len(names) <= MANY:
        places, short = range(len(names)), [shortened(name) for name in names]
        axes.set_xticks(places, short, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, short)
        size = 9 if len(names) <= 10 else 6
        for row, column in np.ndindex(*found.shape):
            if found[row, column]:
                color = "black" if shares[row, column] > 0.6 else "white"
                axes.text(column, row, f"{found[row, column]}", ha="center", va="center", color=color, fontsize=size)
    made.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)


def plot_report(made: Figure, seen: Evidence, names: Sequence[str]) -> None:
    """Plot precision, recall and F1 of each class as points on a line, worst F1 on top; at most 20 classes."""
    rows = sorted((row for row in report(seen, names) if row[4]), key=lambda row: row[3])
    shown = rows if len(rows) <= MANY else rows[:MANY]
    axes = made.subplots()
    places = np.arange(len(shown))
    for index, (what, marker) in enumerate((("precision", "o"), ("recall", "s"), ("F1", "D"))):
        axes.scatter([row[index + 1] for row in shown], places, label=what, color=PALETTE[index], marker=marker, s=34)
    axes.set_yticks(places, [f"{shortened(row[0])} ({row[4]:,})" for row in shown])
    axes.invert_yaxis()
    axes.set_xlim(min(0.9, *(min(row[1:4]) for row in shown)) - 0.02, 1.005)
    selection = f"; the {len(shown)} worst of {len(rows)} classes" if len(shown) < len(rows) else ""
    axes.set_title(f"precision, recall and F1 (number of samples in brackets){selection}", wrap=True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def plot_precision_recall(made: Figure, seen: Evidence, names: Sequence[str]) -> None:
    """Plot one precision-recall curve per class, its area in the legend."""

    def curve(truth: Any, score: Any) -> tuple[Any, Any, float]:
        precision, recall, _ = precision_recall_curve(truth, score)
        return recall, precision, float(average_precision_score(truth, score))

    _plot_curves(made.subplots(), seen, names, curve, ("recall", "precision", "average precision"))


def plot_roc(made: Figure, seen: Evidence, names: Sequence[str]) -> None:
    """Plot one ROC curve per class, its area in the legend; the diagonal is a random guess."""

    def curve(truth: Any, score: Any) -> tuple[Any, Any, float]:
        false_positive, true_positive, _ = roc_curve(truth, score)
        return false_positive, true_positive, float(auc(false_positive, true_positive))

    axes = made.subplots()
    axes.plot((0, 1), (0, 1), color="#AAAAAA", linewidth=1, linestyle=":")
    _plot_curves(axes, seen, names, curve, ("false positive rate", "true positive rate", "AUC"))


def _plot_curves(
    axes: Axes, seen: Evidence, names: Sequence[str], curve: Callable[..., Any], labels: tuple[str, str, str]
) -> None:
    """Plot the curves of classes that some samples, but not all, belong to; with many classes only the worst.

    `labels` are those of the x axis, the y axis and the area.
    """
    targets, scores = seen.targets.numpy(), seen.scores.numpy()
    found = []
    for index in range(len(names)):
        truth = targets == index
        if truth.any() and not truth.all():
            found.append((index, *curve(truth, scores[:, index])))
    chosen = found if len(found) <= MANY else sorted(found, key=lambda one: one[3])[:FEW]
    for index, x, y, area in chosen:
        axes.plot(x, y, label=f"{shortened(names[index])} {area:.3f}", **class_line(index))
    mean = f"mean {np.mean([area for *_, area in found]):.3f}" if found else "no class has both samples and others"
    selection = f"; the {FEW} lowest of {len(found)} classes" if len(chosen) < len(found) else ""
    x_label, y_label, area_label = labels
    axes.set(title=f"{area_label}: {mean}{selection}", xlabel=x_label, ylabel=y_label)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    if chosen:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def reliability(seen: Evidence, bins: int = 10) -> tuple[Any, Any, Any, float]:
    """Return confidence, accuracy and share of samples of each nonempty bin, and the expected calibration error.

    The error is the mean gap between confidence and accuracy, weighted by the number of samples (arXiv:1706.04599).
    """
    confidence, predicted = (values.numpy() for values in seen.probabilities.max(1))
    right = predicted == seen.targets.numpy()
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    number = np.bincount(places, minlength=bins)
    filled = number > 0
    mean = np.bincount(places, confidence, bins)[filled] / number[filled]
    accuracy = np.bincount(places, right, bins)[filled] / number[filled]
    share = number[filled] / number.sum()
    return mean, accuracy, share, float((share * np.abs(mean - accuracy)).sum())


def plot_reliability(made: Figure, seen: Evidence, _: Sequence[str]) -> None:
    """Plot accuracy over confidence in ten bins; a calibrated model is on the diagonal."""
    confidence, accuracy, share, error = reliability(seen)
    above, below = made.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot((0, 1), (0, 1), color="#AAAAAA", linewidth=1, linestyle=":")
    above.plot(confidence, accuracy, marker="o", color=PALETTE[0])
    above.set(ylabel="accuracy", title=f"expected calibration error {error:.3f}", ylim=(-0.02, 1.02))
    below.bar(confidence, share, width=0.06, color=PALETTE[6])
    below.set(xlabel="confidence (probability of the predicted class)", ylabel="share", xlim=(-0.02, 1.05))


def confused_pairs(seen: Evidence, names: Sequence[str], most: int = 12) -> list[tuple[str, str, int, float]]:
    """Return true and predicted class, count, and share of the true class, most frequent first."""
    found = counts(seen, names)
    totals = np.maximum(found.sum(1), 1)
    np.fill_diagonal(found, 0)
    order = np.argsort(-found, axis=None, kind="stable")[:most]
    pairs = [np.unravel_index(place, found.shape) for place in order]
    return [(names[t], names[p], int(found[t, p]), float(found[t, p] / totals[t])) for t, p in pairs if found[t, p]]


def plot_confused_pairs(made: Figure, seen: Evidence, names: Sequence[str]) -> None:
    """Plot the most frequent confusions as bars, most frequent on top."""
    from matplotlib.ticker import MaxNLocator

    pairs = confused_pairs(seen, names)
    axes = made.subplots()
    if not pairs:
        axes.set_title("all samples were classified correctly")
        axes.set_axis_off()
        return
    places = range(len(pairs))
    bars = axes.barh(places, [number for *_, number, _ in pairs], color=PALETTE[0])
    axes.bar_label(bars, [f" {number} ({share:.1%} of the class)" for *_, number, share in pairs], fontsize=9)
    axes.set_yticks(places, [f"{shortened(true)} as {shortened(predicted)}" for true, predicted, *_ in pairs])
    axes.invert_yaxis()
    axes.margins(x=0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="samples", title="most confused pairs")


def plot_samples(made: Figure, samples: TopSamples, names: Sequence[str], title: str) -> None:
    """Plot each sample with its class and the two most probable classes."""
    number = len(samples.targets)
    columns = min(4, max(number, 1))
    grid = made.subplots(-(-max(number, 1) // columns), columns, squeeze=False).flat
    for axes in grid:
        axes.set_axis_off()
    for axes, sample, target, probabilities in zip(
        made.axes, samples.inputs if samples.inputs is not None else (), samples.targets, samples.probabilities,
        strict=False,
    ):  # fmt: skip
        plot_sample(axes, sample)
        top = probabilities.topk(min(2, len(probabilities)))
        guesses = [f"{shortened(names[int(k)], 14)}: {p:.2f}" for p, k in zip(top.values, top.indices, strict=True)]
        own = f"true {shortened(names[int(target)], 14)}: {probabilities[int(target)]:.2f}"
        axes.set_title("\n".join([own, *guesses]), fontsize=8)
    made.suptitle(title if number else f"{title}: none", fontsize=11)

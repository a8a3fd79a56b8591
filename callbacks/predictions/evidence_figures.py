"""Plots of a classifier's predictions, with metrics from scikit-learn."""

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

MANY = 20  # maximum number of classes that are all plotted
FEW = 10  # number of curves for more classes: the lowest
Table = list[tuple[str, float, float, float, int]]


def counts(evidence: Evidence, names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the confusion matrix: true classes in rows, predicted classes in columns."""
    predicted = evidence.probabilities.argmax(1).numpy()
    return np.asarray(confusion_matrix(evidence.targets.numpy(), predicted, labels=np.arange(len(names))))


def report(evidence: Evidence, names: Sequence[str]) -> Table:
    """Return name, precision, recall, F1 and number of samples of each class."""
    predicted, labels = evidence.probabilities.argmax(1).numpy(), np.arange(len(names))
    scores = precision_recall_fscore_support(evidence.targets.numpy(), predicted, labels=labels, zero_division=0.0)
    return list(zip(names, *(values.tolist() for values in scores), strict=True))


def plot_confusion(fig: Figure, evidence: Evidence, names: Sequence[str]) -> None:
    """Plot the confusion matrix; colors are shares of the true class. Up to 20 classes have counts."""
    matrix = counts(evidence, names)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes = fig.subplots()
    image = axes.imshow(shares, cmap=SEQUENTIAL, vmin=0.0, vmax=1.0)
    axes.grid(visible=False)
    correct, total = int(np.trace(matrix)), int(matrix.sum())
    axes.set(xlabel="predicted", ylabel="true", title=f"{correct:,} of {total:,} correct ({correct / total:.2%})")
    if len(names) <= MANY:
        ticks, short = range(len(names)), [shortened(name) for name in names]
        axes.set_xticks(ticks, short, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, short)
        size = 9 if len(names) <= 10 else 6
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                color = "black" if shares[row, column] > 0.6 else "white"
                axes.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=size)
    fig.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)


def plot_report(fig: Figure, evidence: Evidence, names: Sequence[str]) -> None:
    """Plot precision, recall and F1 of at most 20 classes as points on one line per class, lowest F1 on top."""
    rows = sorted((row for row in report(evidence, names) if row[4]), key=lambda row: row[3])
    shown = rows[:MANY]
    axes = fig.subplots()
    ticks = np.arange(len(shown))
    for index, (metric, marker) in enumerate((("precision", "o"), ("recall", "s"), ("F1", "D"))):
        axes.scatter([row[index + 1] for row in shown], ticks, label=metric, color=PALETTE[index], marker=marker, s=34)
    axes.set_yticks(ticks, [f"{shortened(row[0])} ({row[4]:,})" for row in shown])
    axes.invert_yaxis()
    axes.set_xlim(min(0.9, *(min(row[1:4]) for row in shown)) - 0.02, 1.005)
    selection = f"; the {len(shown)} classes with the lowest F1 of {len(rows)}" if len(shown) < len(rows) else ""
    axes.set_title(f"precision, recall and F1 (number of samples in parentheses){selection}", wrap=True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def plot_precision_recall(fig: Figure, evidence: Evidence, names: Sequence[str]) -> None:
    """Plot one precision-recall curve per class, with its area in the legend."""

    def curve(truth: Any, score: Any) -> tuple[Any, Any, float]:
        precision, recall, _ = precision_recall_curve(truth, score)
        return recall, precision, float(average_precision_score(truth, score))

    _plot_curves(fig.subplots(), evidence, names, curve, ("recall", "precision", "average precision"))


def plot_roc(fig: Figure, evidence: Evidence, names: Sequence[str]) -> None:
    """Plot one ROC curve per class, with its area in the legend; the diagonal is random guessing."""

    def curve(truth: Any, score: Any) -> tuple[Any, Any, float]:
        false_positive, true_positive, _ = roc_curve(truth, score)
        return false_positive, true_positive, float(auc(false_positive, true_positive))

    axes = fig.subplots()
    axes.plot((0, 1), (0, 1), color="#AAAAAA", linewidth=1, linestyle=":")
    _plot_curves(axes, evidence, names, curve, ("false positive rate", "true positive rate", "AUC"))


def _plot_curves(
    axes: Axes, evidence: Evidence, names: Sequence[str], curve: Callable[..., Any], labels: tuple[str, str, str]
) -> None:
    """Plot the curves of all classes that have some of the samples, but not all; of many classes only the lowest.

    `labels` are those of the x axis, the y axis and the area.
    """
    targets, scores = evidence.targets.numpy(), evidence.scores.numpy()
    truths = [(index, targets == index) for index in range(len(names))]
    curves = [(i, *curve(truth, scores[:, i])) for i, truth in truths if truth.any() and not truth.all()]
    chosen = curves if len(curves) <= MANY else sorted(curves, key=lambda row: row[3])[:FEW]
    for index, x, y, area in chosen:
        axes.plot(x, y, label=f"{shortened(names[index])} {area:.3f}", **class_line(index))
    mean = f"mean {np.mean([area for *_, area in curves]):.3f}" if curves else "undefined, all samples have one class"
    selection = f"; the {FEW} lowest of {len(curves)} classes" if len(chosen) < len(curves) else ""
    x_label, y_label, area_label = labels
    title = f"{area_label}: {mean}{selection}"
    axes.set(title=title, xlabel=x_label, ylabel=y_label, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    if chosen:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def reliability(evidence: Evidence, bins: int = 10) -> tuple[Any, Any, Any, float]:
    """Return confidence, accuracy and share of samples of each nonempty bin, and the expected calibration error.

    The error is the mean gap between confidence and accuracy, weighted by the number of samples (arXiv:1706.04599).
    """
    confidence, predicted = (values.numpy() for values in evidence.probabilities.max(1))
    _, bin_index, count = np.unique(
        np.minimum((confidence * bins).astype(int), bins - 1), return_inverse=True, return_counts=True
    )
    mean = np.bincount(bin_index, confidence) / count
    accuracy = np.bincount(bin_index, predicted == evidence.targets.numpy()) / count
    share = count / count.sum()
    return mean, accuracy, share, float((share * np.abs(mean - accuracy)).sum())


def plot_reliability(fig: Figure, evidence: Evidence, _: Sequence[str]) -> None:
    """Plot accuracy over confidence in ten bins; the points of a calibrated model are on the diagonal."""
    confidence, accuracy, share, error = reliability(evidence)
    above, below = fig.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot((0, 1), (0, 1), color="#AAAAAA", linewidth=1, linestyle=":")
    above.plot(confidence, accuracy, marker="o", color=PALETTE[0])
    above.set(ylabel="accuracy", title=f"expected calibration error {error:.3f}", ylim=(-0.02, 1.02))
    below.bar(confidence, share, width=0.06, color=PALETTE[6])
    below.set(xlabel="confidence (probability of the predicted class)", ylabel="share", xlim=(-0.02, 1.05))


def confused_pairs(evidence: Evidence, names: Sequence[str], limit: int = 12) -> list[tuple[str, str, int, float]]:
    """Return each confusion: true class, predicted class, count and share of the true class, most frequent first."""
    matrix = counts(evidence, names)
    totals = matrix.sum(1)
    np.fill_diagonal(matrix, 0)
    pairs = [divmod(int(i), len(names)) for i in np.argsort(-matrix, axis=None, kind="stable")[:limit]]
    return [(names[t], names[p], int(matrix[t, p]), float(matrix[t, p] / totals[t])) for t, p in pairs if matrix[t, p]]


def plot_confused_pairs(fig: Figure, evidence: Evidence, names: Sequence[str]) -> None:
    """Plot the most frequent confusions as bars, the most frequent on top."""
    from matplotlib.ticker import MaxNLocator

    pairs = confused_pairs(evidence, names)
    axes = fig.subplots()
    if not pairs:
        axes.set_title("all samples were classified correctly")
        axes.set_axis_off()
        return
    ticks = range(len(pairs))
    bars = axes.barh(ticks, [count for *_, count, _ in pairs], color=PALETTE[0])
    axes.bar_label(bars, [f" {count} ({share:.1%} of the class)" for *_, count, share in pairs], fontsize=9)
    axes.set_yticks(ticks, [f"{shortened(true)} as {shortened(predicted)}" for true, predicted, *_ in pairs])
    axes.invert_yaxis()
    axes.margins(x=0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="samples", title="most confused pairs")


def plot_samples(fig: Figure, samples: TopSamples, names: Sequence[str], title: str) -> None:
    """Plot each sample with its class and the two most probable classes."""
    inputs = () if samples.inputs is None else samples.inputs
    columns = min(4, max(len(inputs), 1))
    rows = zip(inputs, samples.targets, samples.probabilities, strict=True)
    for index, (sample, target, probabilities) in enumerate(rows, start=1):
        axes = fig.add_subplot(-(-len(inputs) // columns), columns, index)
        axes.set_axis_off()
        plot_sample(axes, sample)
        top = probabilities.topk(min(2, len(probabilities)))
        guesses = [f"{shortened(names[int(k)], 14)}: {p:.2f}" for p, k in zip(top.values, top.indices, strict=True)]
        true = f"true {shortened(names[int(target)], 14)}: {probabilities[int(target)]:.2f}"
        axes.set_title("\n".join([true, *guesses]), fontsize=8)
    fig.suptitle(title if len(inputs) else f"{title}: none", fontsize=11)

"""Callback for figures of a classifier's correct and wrong predictions."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from callbacks.arguments import require
from callbacks.figures.plotting import figure, readable, show
from callbacks.forward import warn_on_error
from callbacks.predictions import evidence_figures as figures
from callbacks.predictions.end_figures import EndFigures
from callbacks.predictions.evidence import Evidence, merge
from callbacks.trainer_state import last_step, tensorboard_writer

WORST, LEAST = "misclassified samples of highest confidence", "least certain samples"
# Width and height in inches, and the function; a height of 0 depends on the number of classes or samples.
FIGURES: dict[str, tuple[float, float, Callable[..., None]]] = {
    "confusion_matrix": (7.0, 6.0, figures.plot_confusion),
    "class_report": (6.4, 0.0, figures.plot_report),
    "precision_recall": (8.0, 4.8, figures.plot_precision_recall),
    "roc": (8.0, 4.8, figures.plot_roc),
    "reliability": (5.6, 5.2, figures.plot_reliability),
    "confused_pairs": (7.6, 4.4, figures.plot_confused_pairs),
    "worst_images": (7.2, 0.0, lambda fig, seen, names: figures.plot_samples(fig, seen.worst, names, WORST)),
    "uncertain_images": (7.2, 0.0, lambda fig, seen, names: figures.plot_samples(fig, seen.uncertain, names, LEAST)),
}


class ClassificationEvidence(EndFigures):
    """Figures of a classifier's predictions at the end of fit (validation split, best weights), validate and test.

    | key                                    | what                                                            | when |
    |----------------------------------------|-----------------------------------------------------------------|------|
    | val/confusion_matrix                   | true against predicted class                                    | end  |
    | val/class_report                       | precision, recall and F1 of each class; also as a table in TEXT | end  |
    | val/precision_recall, val/roc          | one curve per class with its area                               | end  |
    | val/reliability                        | accuracy over confidence, and the expected calibration error    | end  |
    | val/confused_pairs                     | the most frequent confusions                                    | end  |
    | val/worst_images, val/uncertain_images | misclassified with highest confidence; least certain            | end  |

    After validate and test, the keys start with `validate/` and `test/`. The figures are also saved in figures/. The
    model's `predict_step` must return `probabilities` and `target`, as in litlab's classifiers.

    Args:
        figures: names from confusion_matrix, class_report, precision_recall, roc, reliability, confused_pairs,
            worst_images, uncertain_images; all if None.
        images: maximum number of samples in worst_images and in uncertain_images.
    """

    unsupported = "predict_step of {} must return `probabilities` and `target`. Return both"

    def __init__(self, figures: list[str] | str | None = None, images: int = 12) -> None:
        chosen = list(FIGURES) if figures is None else [figures] if isinstance(figures, str) else list(figures)
        is_known = bool(chosen) and set(chosen) <= set(FIGURES)
        require(is_known, "ClassificationEvidence.figures", f"some of {', '.join(FIGURES)}", figures)
        require(images >= 1, "ClassificationEvidence.images", "1 or more", images)
        self.figures = tuple(chosen)
        self.images = images

    def add(self, collected: Evidence | None, inputs: Tensor, output: dict[str, Tensor]) -> Evidence | None:
        if "probabilities" not in output or "target" not in output or output["target"].dim() != 1:
            return None
        evidence = collected or Evidence.empty(self.images)
        evidence.add(inputs, output["probabilities"], output["target"], output.get("log_odds"))
        return evidence

    def plot(self, trainer: Trainer, module: LightningModule, stage: str, gathered: list[Evidence]) -> None:
        evidence = merge(gathered)
        if evidence.not_finite:
            rank_zero_warn(
                f"{evidence.not_finite:,} samples have probabilities that are not finite; the figures omit them."
            )
        if not evidence.batches:
            return
        names = class_names(trainer, evidence.probabilities.shape[1])
        absent = [name for i, name in enumerate(names) if not bool((evidence.targets == i).any())]
        if absent:
            listed = ", ".join(absent[:5]) + (" and others" if len(absent) > 5 else "")
            trainer.print(f"{stage}: no sample of {len(absent)} of the {len(names)} classes: {listed}.")
        step = last_step(trainer)
        for name in self.figures:
            width, height, plot = FIGURES[name]
            rows = 1.2 + 0.3 * min(len(names), figures.MANY) if name == "class_report" else 2.1 * -(-self.images // 4)
            with warn_on_error("ClassificationEvidence", name), figure(width, height or rows, names) as fig:
                plot(fig, evidence, names)
                show(trainer, f"{stage}/{name}", fig, step, source=self.source)
        writer = tensorboard_writer(trainer)
        if writer is not None and "class_report" in self.figures:
            writer.add_text(f"{stage}/class_report", _table(figures.report(evidence, names)), step)


def class_names(trainer: Trainer, number: int) -> list[str]:
    """Return the class names of the data as figures can show them, or if there are none "0", "1", "2", ..."""
    names = getattr(getattr(trainer, "datamodule", None), "class_names", None)
    return readable(list(names)) if names and len(names) == number else [str(i) for i in range(number)]


def _table(rows: figures.Table) -> str:
    lines = ["| class | precision | recall | F1 | samples |", "|---|---|---|---|---|"]
    for name, *values, number in rows:
        shown = " | ".join(f"{value:.4f}" if number else "no samples" for value in values)
        lines.append(f"| {name.replace('|', '/')} | {shown} | {number:,} |")
    return "\n".join(lines)

"""Where a classifier is right and wrong, in figures."""

from __future__ import annotations

from functools import partial
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.figures.drawing import figure, readable, show
from callbacks.forward import told
from callbacks.predictions import evidence_figures as figures
from callbacks.predictions.end_figures import EndFigures
from callbacks.predictions.evidence import Evidence, joined
from callbacks.predictions.predict_all import predictions
from callbacks.trainer_state import last_step, tensorboard_writer

FIGURES = (
    "confusion_matrix",
    "class_report",
    "precision_recall",
    "roc",
    "reliability",
    "confused_pairs",
    "worst_images",
    "uncertain_images",
)


class ClassificationEvidence(EndFigures):
    """Figures of a classifier's predictions, at the end of fit (validation part, last weights), validate and test.

    | key                                    | what                                                            | when |
    |----------------------------------------|-----------------------------------------------------------------|------|
    | val/confusion_matrix                   | true against predicted class                                    | end  |
    | val/class_report                       | precision, recall, F1 of each class; as a table in TEXT         | end  |
    | val/precision_recall, val/roc          | a curve a class with its area                                   | end  |
    | val/reliability                        | accuracy over confidence, and the expected calibration error    | end  |
    | val/confused_pairs                     | what is most often taken for what                               | end  |
    | val/worst_images, val/uncertain_images | mistakes of the highest confidence; the least certain decisions | end  |

    After these commands the keys start with `validate/` and `test/`. The same go to figures/. Needs a model whose
    `predict_step` gives `probabilities` and `target`, as litlab's do.

    Args:
        figures: which of confusion_matrix, class_report, precision_recall, roc, reliability, confused_pairs,
            worst_images, uncertain_images; all if None.
        images: how many samples are shown of either kind.
    """

    def __init__(self, figures: list[str] | str | None = None, images: int = 12) -> None:
        asked = list(FIGURES) if figures is None else [figures] if isinstance(figures, str) else list(figures)
        unknown = sorted(set(asked) - set(FIGURES))
        if unknown or not asked:
            raise MisconfigurationException(
                f"ClassificationEvidence.figures: {', '.join(unknown) or 'an empty list'} is not possible; there are "
                f"{', '.join(FIGURES)}."
            )
        if images < 1:
            raise MisconfigurationException(f"ClassificationEvidence.images must be 1 or more, not {images}.")
        self.figures = tuple(asked)
        self.images = images

    def collect(self, trainer: Trainer, module: LightningModule, loaders: Any, limits: Any) -> Evidence | None:
        own: Evidence | None = None
        for inputs, found in predictions(trainer, module, loaders, limits):
            if "probabilities" not in found or "target" not in found or found["target"].dim() != 1:
                break
            if own is None:
                own = Evidence.empty(self.images)
            own.add(inputs, found["probabilities"], found["target"])
        return own

    def unfit(self, module: LightningModule) -> str:
        return f"{type(module).__name__} gives no probabilities beside targets in predict_step; nothing is drawn."

    def draw(self, trainer: Trainer, module: LightningModule, stage: str, parts: list[Evidence]) -> None:
        seen = joined(parts)
        if seen.not_finite:
            rank_zero_warn(
                f"{seen.not_finite:,} samples have probabilities that are not finite; the figures leave them out."
            )
        if not seen.batches:
            return
        names = class_names(trainer, seen.probabilities.shape[1])
        absent = [name for i, name in enumerate(names) if not bool((seen.targets == i).any())]
        if absent:
            some = ", ".join(absent[:5]) + (" and others" if len(absent) > 5 else "")
            trainer.print(f"{stage}: no sample of {len(absent)} of the {len(names)} classes: {some}.")
        step = last_step(trainer)
        tall = 1.2 + 0.3 * min(len(names), figures.MANY)
        rows = -(-self.images // 4)
        plans: dict[str, tuple[float, float, Any]] = {
            "confusion_matrix": (7.0, 6.0, figures.draw_confusion),
            "class_report": (6.4, tall, figures.draw_report),
            "precision_recall": (8.0, 4.8, figures.draw_precision_recall),
            "roc": (8.0, 4.8, figures.draw_roc),
            "reliability": (5.6, 5.2, figures.draw_reliability),
            "confused_pairs": (7.6, 4.4, figures.draw_confused_pairs),
            "worst_images": (7.2, 2.1 * rows, None),
            "uncertain_images": (7.2, 2.1 * rows, None),
        }
        examples = {
            "worst_images": partial(figures.draw_examples, examples=seen.worst, title="mistakes of highest confidence"),
            "uncertain_images": partial(
                figures.draw_examples, examples=seen.uncertain, title="least certain decisions"
            ),
        }
        for name in self.figures:
            width, height, draw = plans[name]
            with told("ClassificationEvidence", name), figure(width, height, names) as made:
                if draw is None:
                    examples[name](made, names=names)
                else:
                    draw(made, seen, names)
                show(trainer, f"{stage}/{name}", made, step)
        writer = tensorboard_writer(trainer)
        if writer is not None and "class_report" in self.figures:
            writer.add_text(f"{stage}/class_report", _table(figures.report(seen, names)), step)


def class_names(trainer: Trainer, number: int) -> list[str]:
    """As the data states them and figures can show them, else 0, 1, 2, …"""
    stated = getattr(getattr(trainer, "datamodule", None), "class_names", None)
    return readable(list(stated)) if stated and len(stated) == number else [str(i) for i in range(number)]


def _table(rows: figures.Table) -> str:
    lines = ["| class | precision | recall | F1 | samples |", "|---|---|---|---|---|"]
    lines += [f"| {name.replace('|', '/')} | {p:.4f} | {r:.4f} | {f:.4f} | {n:,} |" for name, p, r, f, n in rows]
    return "\n".join(lines)

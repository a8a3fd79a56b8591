"""Metrics by name."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from lightning.fabric.utilities.exceptions import MisconfigurationException
from torchmetrics import Metric

from lit_models.parts.class_metrics import AUROC, F1, NLL, Accuracy, AveragePrecision, Precision, Recall, TopK
from lit_models.parts.number_metrics import MAE, MSE, R2
from lit_models.parts.specs import did_you_mean


def _top5(classes: int) -> Metric:
    if classes <= 5:
        raise MisconfigurationException(f"metrics: 'top5' is always 1 with {classes} classes. Remove it from metrics.")
    return TopK(5)


#: Metrics of a number of classes. torchmetrics divides in float32, ranks by rounded probabilities, and counts a class
#: without samples as 0 or 0.5.
CLASS_METRICS: Mapping[str, Callable[[int], Metric]] = MappingProxyType(
    {
        "acc": lambda _: Accuracy(),
        "top5": _top5,
        "nll": lambda _: NLL(),
        "precision": Precision,
        "recall": Recall,
        "f1": F1,
        "auroc": AUROC,
        "average_precision": AveragePrecision,
    }
)
#: Metrics that are updated with logits `(B, C)`; the others take predicted classes, which is cheaper.
OF_LOGITS = frozenset({"top5", "nll", "auroc", "average_precision"})

#: Metrics of a number of targets.
NUMBER_METRICS: Mapping[str, Callable[[int], Metric]] = MappingProxyType(
    {
        "mae": lambda _: MAE(),
        "mse": lambda _: MSE(),
        "r2": R2,
    }
)


def build_metrics(names: Sequence[str], known: Mapping[str, Callable[[int], Metric]], size: int) -> dict[str, Metric]:
    """Return new metrics by name for `size` classes or targets; raise an error if a name is unknown."""
    if isinstance(names, str):
        raise MisconfigurationException(f"metrics must be a list of names, got {names!r}. Set metrics: [{names}].")
    for name in names:
        if name not in known:
            raise MisconfigurationException(f"metrics: unknown name {name!r}.{did_you_mean(str(name), known)}")
    return {name: known[name](size) for name in dict.fromkeys(names)}

"""Every metric by name on hard data, against scikit-learn or NumPy in float64, on one and on two processes."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn import metrics as sk
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from lit_models import LitClassifier, LitRegressor
from lit_models.parts.metrics import CLASS_METRICS, NUMBER_METRICS

CLASS_DATA = (
    "large offset", "tiny spread", "saturated", "absent class", "one class", "one sample", "ties", "imbalance",
    "many classes", "constant output", "two", "two saturated", "two ties", "two, one class", "two imbalance",
)  # fmt: skip
NUMBER_DATA = (
    "large offset", "huge offset", "tiny spread", "one sample", "constant target", "one of two constant", "imbalance",
    "far predictions", "two samples", "ten thousand",
)  # fmt: skip


def _classes(name: str) -> tuple[Tensor, Tensor]:
    """Return logits `(N, C)` and class indices `(N,)`."""
    g = torch.Generator().manual_seed(3)
    classes = 2 if name.startswith("two") else 1000 if name == "many classes" else 7
    n = 1 if name == "one sample" else 600
    target = torch.randint(classes, (n,), generator=g)
    if name == "absent class":
        target[target == 4] = 2
    elif "one class" in name:
        target[:] = 0
    elif "imbalance" in name:
        target = (torch.rand(n, generator=g) < 0.01).long() * (classes - 1)
    logits = torch.randn(n, classes, generator=g) + 2 * nn.functional.one_hot(target, classes)
    if name == "large offset":
        logits = (logits * 16).round() / 16 + 1e5  # sixteenths, which float32 holds
    elif "saturated" in name:
        logits = logits * 300
    elif name == "tiny spread":
        logits = logits * 1e-6
    elif "ties" in name:
        logits = logits.round()
    elif name == "constant output":
        logits = torch.zeros_like(logits)
    return logits, target


def _numbers(name: str) -> tuple[Tensor, Tensor]:
    """Return predictions and targets `(N, D)`."""
    g = torch.Generator().manual_seed(5)
    n = {"one sample": 1, "two samples": 2, "ten thousand": 10_000}.get(name, 500)
    target = torch.randn(n, 2, generator=g)
    if name == "large offset":
        target = target + 1e4
    elif name == "huge offset":
        target = (1000 * target).round() + 1e7  # whole numbers, which float32 holds
    elif name == "tiny spread":
        target = 2000 + (torch.rand(n, 2, generator=g) < 0.5) * 2**-10
    elif name == "constant target":
        target = torch.full((n, 2), 0.1)
    elif name == "one of two constant":
        target[:, 0] = 1234.567
    elif name == "imbalance":
        target = (torch.rand(n, 2, generator=g) < 0.02) * 1e6
    predicted = target + 0.3 * torch.randn(n, 2, generator=g)
    return predicted + (1e6 if name == "far predictions" else 0), target


def _class_reference(logits: Tensor, target: Tensor) -> dict[str, float]:
    z, y = logits.double().numpy(), target.numpy()
    classes = z.shape[1]
    guess = z.argmax(1)
    rows = np.arange(len(y))
    first = np.argsort(-z, axis=1, kind="stable")
    found = {
        "acc": sk.accuracy_score(y, guess),
        "nll": float(np.mean(logsumexp(z, axis=1) - z[rows, y])),
        "top5": float(np.mean((first[:, :5] == y[:, None]).any(1))),
    }
    z = z - z.max(1, keepdims=True)
    if classes > 100:
        scores = z - np.log(np.exp(z).sum(1, keepdims=True) - np.exp(z))
    else:  # sorted, so that permuted logits give equal scores in spite of rounding
        scores = np.stack([z[:, c] - logsumexp(np.sort(np.delete(z, c, 1), axis=1), axis=1) for c in range(classes)], 1)
    present = [c for c in range(classes) if (y == c).any()]
    for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        if classes == 2:
            found[name] = score(y, guess, zero_division=0) if 1 in present or guess.any() else math.nan
        else:
            found[name] = score(y, guess, labels=present, average="macro", zero_division=0)
    if classes == 2 and name == "f1" and 1 not in present:
        found["recall"] = math.nan
    ranked = [c for c in ([1] if classes == 2 else present) if (y == c).sum() > 0]
    both = [c for c in ranked if (y == c).sum() < len(y)]
    areas = [sk.roc_auc_score(y == c, scores[:, c]) for c in both]
    means = [sk.average_precision_score(y == c, scores[:, c]) for c in ranked]
    found["auroc"] = float(np.mean(areas)) if areas else math.nan
    found["average_precision"] = float(np.mean(means)) if means else math.nan
    return found


def _number_reference(predicted: Tensor, target: Tensor) -> dict[str, float]:
    p, y = predicted.double().numpy(), target.double().numpy()
    varied = [d for d in range(y.shape[1]) if np.ptp(y[:, d]) > 0]
    scores = [sk.r2_score(y[:, d], p[:, d]) for d in varied]
    return {
        "mae": sk.mean_absolute_error(y, p),
        "mse": sk.mean_squared_error(y, p),
        "r2": float(np.mean(scores)) if scores else math.nan,
    }


class _Identity(LitClassifier):
    """Classifier whose inputs are its logits."""

    def __init__(self, classes: int) -> None:
        super().__init__((classes,), classes, metrics=[n for n in CLASS_METRICS if n != "top5" or classes > 5])
        self.net = nn.Identity()


class _NumberIdentity(LitRegressor):
    """Regressor whose inputs are its predictions."""

    def __init__(self, targets: int) -> None:
        super().__init__((targets,), targets, metrics=list(NUMBER_METRICS))
        self.net = nn.Identity()


def _case(kind: str, name: str) -> tuple[Any, Tensor, Tensor]:
    outputs, target = _classes(name) if kind == "classes" else _numbers(name)
    return (_Identity if kind == "classes" else _NumberIdentity)(outputs.shape[1]), outputs, target


@cache
def _reference(kind: str, name: str) -> dict[str, float]:
    return _class_reference(*_classes(name)) if kind == "classes" else _number_reference(*_numbers(name))


CASES = [("classes", name) for name in CLASS_DATA] + [("numbers", name) for name in NUMBER_DATA]


@pytest.mark.filterwarnings("ignore:val/:UserWarning")
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_every_metric_equals_its_reference(trainer: Any, loader: Any, kind: str, name: str) -> None:
    model, outputs, target = _case(kind, name)
    expected = _reference(kind, name)
    for batch_size in (7, 64, 1000) if len(target) <= 600 else (999,):
        found = trainer().validate(model, loader(outputs, target, batch_size=batch_size), verbose=False)[0]
        for metric in model.metric_names[1:]:
            assert float(found[metric]) == pytest.approx(
                expected[metric.removeprefix("val/")], rel=1e-6, abs=1e-9, nan_ok=True
            ), (metric, batch_size)


def _on_rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {}
    for kind, name in CASES:
        model, outputs, target = _case(kind, name)
        split = len(target) // 3  # uneven shares
        rows = slice(None, split) if rank == 0 and split else slice(split, None)
        if len(target) == 1:
            continue
        for x, y in zip(outputs[rows].split(64), target[rows].split(64), strict=True):
            model.observe(model.val_metrics, x, y)
        found[kind, name] = {key: float(metric.compute()) for key, metric in model.val_metrics.measured().items()}
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_equal_the_reference(tmp_path: Path) -> None:
    spawn(_on_rank, (str(tmp_path),), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for kind, name in CASES:
        expected = _reference(kind, name)
        for values in found:
            for metric, value in values.get((kind, name), {}).items():
                assert value == pytest.approx(expected[metric.removeprefix("val/")], rel=1e-6, abs=1e-9, nan_ok=True), (
                    kind,
                    name,
                    metric,
                )


@pytest.mark.parametrize(
    ("kind", "name", "remark"),
    [
        ("classes", "two, one class", "val/auroc is not defined, because all samples belong to class 0."),
        ("classes", "absent class", "val/auroc is the mean over 6 of 7 classes, because no sample belongs to class 4."),
        ("classes", "absent class", "val/f1 is the mean over 6 of 7 classes, because no sample belongs to class 4."),
        ("numbers", "constant target", "val/r2 is not defined, because all samples have the same target."),
        ("numbers", "one of two constant", "val/r2 is the mean over 1 of 2 targets; constant: target 0."),
    ],
)
def test_what_is_not_defined_is_reported(trainer: Any, loader: Any, kind: str, name: str, remark: str) -> None:
    model, outputs, target = _case(kind, name)
    with pytest.warns(UserWarning, match="val/") as warned:
        trainer().validate(model, loader(outputs, target), verbose=False)
    assert remark in [str(warning.message) for warning in warned]


def test_sums_keep_their_digits_over_many_samples() -> None:
    model = _NumberIdentity(1)
    metrics = model.val_metrics
    metrics.reset()
    for _ in range(1000):  # 20 million samples: in float32 the sum stops at 2**24
        metrics.add_mean("loss", torch.tensor(1.0), 20_000)
        metrics.add_mean("loss", torch.tensor(0.1), 1)
        list(metrics.flush())
    expected = (1000 * 20_000 + 1000 * float(np.float32(0.1))) / 20_001_000
    assert float(metrics.mean_loss()) == pytest.approx(expected, rel=1e-12)


def test_a_model_in_bfloat16_counts_in_full(trainer: Any, loader: Any) -> None:
    outputs, target = torch.randn(3000, 3), torch.arange(3000) % 3
    found = trainer(precision="bf16-true").validate(_Identity(3), loader(outputs, target, batch_size=7), verbose=False)
    rounded = outputs.bfloat16()
    assert found[0]["val/acc"] == pytest.approx(float((rounded.argmax(1) == target).double().mean()), rel=1e-12)
    expected = nn.functional.cross_entropy(rounded.double(), target)
    assert found[0]["val/loss"] == pytest.approx(float(expected), rel=1e-6)


def test_the_page_of_numbers_defines_every_metric() -> None:
    page = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text(encoding="utf-8")
    assert {name for name in (*CLASS_METRICS, *NUMBER_METRICS) if f"| `{name}` |" not in page} == set()


def test_outputs_that_are_nan_leave_no_metric_defined(trainer: Any, loader: Any) -> None:
    outputs, target = torch.randn(90, 3), torch.arange(90) % 3
    outputs[::3, 1] = torch.nan
    with pytest.warns(UserWarning, match=r"val: metrics are not defined, .* NaN or infinite for 33.33% of the samples"):
        found = trainer().validate(_Identity(3), loader(outputs, target, batch_size=40), verbose=False)[0]
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.filterwarnings("ignore:val/:UserWarning")
def test_logits_of_minus_infinity_are_valid(trainer: Any, loader: Any) -> None:
    outputs, target = torch.randn(90, 3), torch.arange(90) % 2
    outputs[:, 2] = -torch.inf  # a class that is excluded
    found = trainer().validate(_Identity(3), loader(outputs, target), verbose=False)[0]
    p = outputs.double().softmax(1)
    assert found["val/acc"] == pytest.approx(sk.accuracy_score(target, p.argmax(1)))
    assert found["val/auroc"] == pytest.approx(sk.roc_auc_score(target, p[:, 1]))


def test_sums_of_another_version_are_not_mixed_with_those_of_this_one() -> None:
    model = _NumberIdentity(1)
    x = torch.randn(9, 1)
    model.train_metrics.add(x, x + 1)
    list(model.train_metrics.flush())
    model.observe(model.train_metrics, x, x + 1)
    state = model.epoch_state()
    state["metrics"]["metrics"]["labels.r2"] = {"total": torch.tensor(9)}  # the names of torchmetrics' R2Score
    with pytest.warns(UserWarning, match="train/r2 of the current epoch covers only the samples after the resume"):
        model.load_epoch_state(state)
    predicted, target = torch.randn(5, 1), torch.randn(5, 1)
    model.observe(model.train_metrics, predicted, target)
    found = {name: float(metric.compute()) for name, metric in model.train_metrics.measured().items()}
    assert found["train/r2"] == pytest.approx(sk.r2_score(target.double(), predicted.double()), rel=1e-6)
    assert found["train/mae"] == pytest.approx((9 + float((predicted - target).abs().sum())) / 14, rel=1e-6)

"""Metrics of whole runs on data that is hard for sums and ranks, against scikit-learn on the same outputs."""

import math

import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor

from datamodules import LitDataModule
from experiments import load_run
from tests.experiments.conftest import Command

QUIET = ("--trainer.enable_model_summary=false", "--trainer.enable_progress_bar=false", "--data.batch_size=100")
HERE = __name__
# Tests turn warnings into errors; litlab prints them as lines.
pytestmark = pytest.mark.filterwarnings("default:test/:UserWarning")


def _generator(split: str) -> torch.Generator:
    return torch.Generator().manual_seed(0 if split == "train" else 1)


class Prices(LitDataModule):
    """Targets of about 10,000 with a spread of 1."""

    input_shape, num_targets, target_kind = (4,), 1, "numbers"  # type: ignore[assignment]
    offset = 1e4

    def load_part(self, split: str) -> tuple[Tensor, Tensor]:
        g = _generator(split)
        x = torch.randn(1000, 4, generator=g)
        return x, self.offset + x[:, :1] + 0.3 * torch.randn(1000, 1, generator=g)


class Lower(Prices):
    """Targets of 2,000 with a spread of 1."""

    offset = 2000


class Raw(LitDataModule):
    """Two classes and features without scaling: most probabilities are 0 or 1 in float32."""

    input_shape, num_classes = (4,), 2  # type: ignore[assignment]

    def load_part(self, split: str) -> tuple[Tensor, Tensor]:
        y = torch.arange(2000) % 2
        return (torch.randn(2000, 4, generator=_generator(split)) + 3 * y[:, None]) * 300, y


class NoFour(LitDataModule):
    """Five classes, and no test sample of class 4."""

    input_shape, num_classes = (4,), 5  # type: ignore[assignment]

    def load_part(self, split: str) -> tuple[Tensor, Tensor]:
        y = torch.arange(500) % (5 if split == "train" else 4)
        centers = 3 * torch.randn(5, 4, generator=torch.Generator().manual_seed(9))
        return centers[y] + torch.randn(500, 4, generator=_generator(split)), y


class OneSided(LitDataModule):
    """Two classes, and only class 0 among the test samples."""

    input_shape, num_classes = (4,), 2  # type: ignore[assignment]

    def load_part(self, split: str) -> tuple[Tensor, Tensor]:
        y = torch.arange(500) % 2 if split == "train" else torch.zeros(500, dtype=torch.long)
        return torch.randn(500, 4, generator=_generator(split)) + y[:, None], y


def _tested(litlab: Command, model: str, data: str, *options: str) -> tuple[dict[str, float], Tensor, Tensor]:
    """Train and test; return the recorded metrics, the outputs of the best weights, and the targets."""
    words = (f"--model={model}", f"--data={HERE}.{data}", f"--experiment={data}", *QUIET, *options)
    assert litlab("fit", *words).code == 0
    assert litlab("test", data).code == 0
    run = load_run(data)
    net, loaded = run.load("best"), run.data
    x, y = loaded.load_part("test")
    with torch.no_grad():
        return run.results[-1]["metrics"], net.eval()(x), y


@pytest.mark.parametrize("data", ["Prices", "Lower"])
def test_r2_of_targets_far_from_zero(litlab: Command, data: str) -> None:
    options = ("--model.optimizer=lbfgs", "--data.stratify=false", "--monitor=val/loss", "--trainer.max_epochs=3")
    found, output, y = _tested(litlab, "LitLinearRegression", data, *options)
    assert found["test/r2"] == pytest.approx(sk.r2_score(y.double(), output.double()), rel=1e-6)
    assert found["test/r2"] > 0.9


def test_auroc_of_saturated_probabilities(litlab: Command) -> None:
    options = ("--model.metrics=[acc,auroc,average_precision]", "--trainer.max_epochs=8")
    found, output, y = _tested(litlab, "LitLogisticRegression", "Raw", *options)
    score = output[:, -1] - (output[:, 0] if output.shape[1] == 2 else 0)
    probabilities = torch.sigmoid(score)
    assert ((probabilities == 0) | (probabilities == 1)).float().mean() > 0.5
    assert found["test/auroc"] == pytest.approx(sk.roc_auc_score(y, score.double()), rel=1e-9)
    assert found["test/average_precision"] == pytest.approx(sk.average_precision_score(y, score.double()), rel=1e-9)


def test_a_class_without_test_samples_is_omitted_and_reported(
    litlab: Command, recwarn: pytest.WarningsRecorder
) -> None:
    options = ("--model.hidden=[32]", "--model.optimizer.lr=0.01", "--trainer.max_epochs=10")
    found, output, y = _tested(litlab, "LitMLP", "NoFour", "--model.metrics=[acc,auroc,f1]", *options)
    p = output.double().softmax(1)
    areas = [sk.roc_auc_score(y == c, p[:, c]) for c in range(4)]
    assert found["test/auroc"] == pytest.approx(sum(areas) / 4, rel=1e-9)
    f1 = sk.f1_score(y, output.argmax(1), labels=range(4), average="macro", zero_division=0)
    assert found["test/f1"] == pytest.approx(f1, rel=1e-9)
    remark = "test/auroc is the mean over 4 of 5 classes, because no sample belongs to class 4."
    assert remark in [str(warning.message) for warning in recwarn]


def test_a_metric_that_is_not_defined_is_nan_with_its_reason(litlab: Command, recwarn: pytest.WarningsRecorder) -> None:
    options = ("--model.metrics=[acc,auroc,recall]", "--trainer.max_epochs=2")
    found, _, _ = _tested(litlab, "LitLogisticRegression", "OneSided", *options)
    assert math.isnan(found["test/auroc"])
    assert math.isnan(found["test/recall"])
    remark = "test/auroc is not defined, because all samples belong to class 0."
    assert remark in [str(warning.message) for warning in recwarn]

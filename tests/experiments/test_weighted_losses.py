"""Losses that are weighted means, sums, or losses of probabilities, through the command line."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from experiments import load_run
from tests.experiments.conftest import Command

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")

PARTS = '''
import torch
from torch import nn
from datamodules import LitDataModule
from lit_models import LitClassifier


class Rare(LitDataModule):
    """26 of 1,280 samples are positive."""

    input_shape, num_classes = (4,), 2

    def load_part(self, part):
        g = torch.Generator().manual_seed(0 if part == "train" else 1)
        y = torch.zeros(1280, dtype=torch.long)
        y[torch.randperm(1280, generator=g)[:26]] = 1
        return torch.randn(1280, 4, generator=g) + y[:, None], y


class Threshold(LitDataModule):
    """Class 1 where the number exceeds 0.38."""

    input_shape, num_classes = (1,), 2

    def load_part(self, part):
        x = torch.rand(500, 1, generator=torch.Generator().manual_seed(0 if part == "train" else 1))
        return x, (x[:, 0] > 0.38).long()


class Net(LitClassifier):
    def __init__(self, end: str = "sigmoid", **kwargs):
        super().__init__(**kwargs)
        size = self.input_shape[0]
        ends = {"sigmoid": [nn.Linear(8, 1), nn.Sigmoid()], "softmax": [nn.Linear(8, 2), nn.Softmax(1)],
                "log_softmax": [nn.Linear(8, 2), nn.LogSoftmax(1)], "logits": [nn.Linear(8, 2)],
                "one_logit": [nn.Linear(8, 1)], "by_hand": [nn.Linear(8, 1), ByHand()]}
        self.net = self.initialized(nn.Sequential(nn.Linear(size, 8), nn.Tanh(), *ends[end]))


class ByHand(nn.Module):
    def forward(self, x):
        return 1 / (1 + (-x).exp())


class Sum(nn.Module):
    def forward(self, output, target):
        return nn.functional.cross_entropy(output, target, reduction="sum")


class Balanced(nn.Module):
    def forward(self, output, target):
        return nn.functional.cross_entropy(output, target, torch.tensor([1.0, 49.0]))


class Weighted(Balanced):
    def batch_weight(self, output, target):
        return (1.0 + 48.0 * target).sum()
'''


@pytest.fixture
def own(workshop: Path) -> Path:
    (workshop / "own_parts.py").write_text(PARTS)
    return workshop


def fit(litlab: Command, data: str, model: str, *arguments: str, code: int = 0) -> str:
    found = litlab("fit", "--data", f"own_parts.{data}", "--model", model, *QUIET, "--experiment=x", *arguments)
    assert found.code == code, found.err
    return found.err


def result(litlab: Command, metric: str, *arguments: str) -> float:
    assert litlab("test", "x", *QUIET, *arguments).code == 0
    records = json.loads((load_run("x").folder.path / "results.json").read_text())
    return float([record for record in records if record["verb"] == "test"][-1]["metrics"][metric])


@pytest.mark.parametrize("loss", ["cross_entropy", "torch.nn.CrossEntropyLoss", "own_parts.Weighted"])
def test_the_loss_does_not_depend_on_the_batch_size(litlab: Command, own: Path, loss: str) -> None:
    weights = () if "Weighted" in loss else ("--model.loss.weight=[1,49]",)
    softmax = ("--model.two_classes=softmax", f"--model.loss={loss}", *weights)
    fit(litlab, "Rare", "LitLogisticRegression", *softmax, "--trainer.max_epochs=2")
    run = load_run("x")
    data = run.data
    x, y = data.load_part("test")
    with torch.no_grad():
        probabilities = run.load("best").double().net(x.double()).softmax(1).numpy()
    expected = log_loss(y, probabilities, sample_weight=np.where(y == 1, 49.0, 1.0))
    for batch_size in (16, 64, 256, 1280):
        assert result(litlab, "test/loss", f"--data.batch_size={batch_size}") == pytest.approx(expected, rel=1e-6), (
            batch_size
        )


def test_rare_classes_train_alike_with_accumulation(litlab: Command, own: Path) -> None:
    weights = []
    for parts in (1, 8, 64):
        fit(
            litlab, "Rare", "LitMLP", "--model.hidden=[8]", "--model.loss.name=cross_entropy",
            "--model.loss.weight=[1,49]", "--data.batch_size=1280", "--data.val_split=0", "--trainer.max_epochs=5",
            f"--trainer.accumulate_grad_batches={parts}", "--model.optimizer=sgd", "--model.optimizer.lr=0.5",
        )  # fmt: skip
        weights.append(torch.cat([p.detach().flatten() for p in load_run("x").load("last").parameters()]))
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=1e-5, atol=1e-6)


def test_ignored_samples_count_in_no_metric(litlab: Command, own: Path) -> None:
    loss = ("--model.loss.name=cross_entropy", "--model.loss.ignore_index=1", "--model.metrics=[acc,nll]")
    fit(litlab, "Rare", "LitMLP", *loss, "--trainer.max_epochs=1")
    x, y = load_run("x").data.load_part("test")
    with torch.no_grad():
        p = load_run("x").load("best").double().net(x[y == 0].double()).softmax(1).numpy()
    for name in ("test/loss", "test/nll"):
        assert result(litlab, name, "--data.batch_size=96") == pytest.approx(
            log_loss(y[y == 0], p, labels=[0, 1]), 1e-6
        )
    assert result(litlab, "test/acc") == pytest.approx((p.argmax(1) == 0).mean())


@pytest.mark.parametrize(
    ("loss", "arguments", "sentence"),
    [
        ("own_parts.Sum", (), "loss: Sum must return the mean over the samples, but it returns their sum"),
        ("torch.nn.CrossEntropyLoss", ("--model.loss.reduction=sum",), "CrossEntropyLoss must return the mean"),
        ("own_parts.Balanced", ("--trainer.accumulate_grad_batches=4",), "loss: Balanced is not a mean over samples"),
        ("torch.nn.NLLLoss", (), "loss: NLLLoss needs log-probabilities, but the exponentials"),
        ("torch.nn.NLLLoss", ("--model.end=softmax",), "loss: NLLLoss needs log-probabilities, but the exponentials"),
        ("bce", ("--model.loss.probabilities=true",), "loss: BCE needs probabilities from 0 to 1, got outputs from"),
        ("lbfgs", ("--trainer.accumulate_grad_batches=2",), "optimizer: lbfgs needs the loss of all samples"),
    ],
)
def test_losses_that_give_wrong_numbers_are_rejected(
    litlab: Command, own: Path, loss: str, arguments: tuple[str, ...], sentence: str
) -> None:
    chosen = "--model.optimizer=lbfgs" if loss == "lbfgs" else f"--model.loss={loss}"
    end = () if "--model.end=softmax" in arguments else ("--model.end=logits",)
    error = fit(litlab, "Rare", "own_parts.Net", *end, chosen, *arguments, code=2)
    assert sentence in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("end", "loss", "sentence"),
    [
        ("logits", "own_parts.Balanced", "so that val/loss depends on the batch size"),
        (
            "softmax",
            "cross_entropy",
            "CrossEntropy computes the softmax of the network's outputs, but the network ends",
        ),
        ("softmax", "torch.nn.CrossEntropyLoss", "Remove the last function of the network"),
        (
            "sigmoid",
            "bce_with_logits",
            "computes the sigmoid of the network's outputs, but the network ends in sigmoid",
        ),
        ("by_hand", "bce_with_logits", "but they seem to be probabilities"),
        ("by_hand", "bce", "Set --model.loss.probabilities true"),
        ("log_softmax", "bce_with_logits", "BCEWithLogits does not take log-probabilities"),
        ("logits", "cross_entropy", ""),
        ("one_logit", "bce", ""),
        ("sigmoid", "bce", ""),
        ("log_softmax", "nll", ""),
        ("log_softmax", "cross_entropy", ""),
    ],
)
def test_losses_that_do_not_suit_the_network_are_reported(
    litlab: Command, own: Path, end: str, loss: str, sentence: str
) -> None:
    arguments = (f"--model.end={end}", f"--model.loss={loss}", "--trainer.max_epochs=1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        fit(litlab, "Rare", "own_parts.Net", *arguments)
    found = [str(warning.message) for warning in caught if str(warning.message).startswith("loss: ")]
    assert len(found) == bool(sentence), found
    assert sentence in "".join(found)


@pytest.mark.parametrize("end", ["sigmoid", "one_logit", "by_hand", "softmax"])
def test_bce_takes_probabilities(litlab: Command, own: Path, end: str) -> None:
    """The loss is torch's BCELoss of the probabilities, and class 1 begins at the probability 0.5."""
    arguments = ("--model.loss.probabilities=true",) if end == "by_hand" else ()
    fit(
        litlab, "Threshold", "own_parts.Net", f"--model.end={end}", "--model.loss=bce", *arguments,
        "--data.batch_size=20", "--model.optimizer.lr=0.02", "--trainer.max_epochs=10",
        "--model.metrics=[acc,auroc,nll]",
    )  # fmt: skip
    x, y = load_run("x").data.load_part("test")
    model = load_run("x").load("best")
    with torch.no_grad():
        output = model.net(x)
        p = output.sigmoid() if end == "one_logit" else output
        target = torch.nn.functional.one_hot(y).float() if end == "softmax" else y[:, None].float()
        expected = torch.nn.BCELoss()(p, target).item()
        p = p[:, -1]
        torch.testing.assert_close(model.probabilities(output)[:, 1], p, rtol=1e-5, atol=1e-6)
    accuracy = ((p > 0.5).long() == y).double().mean().item()
    assert accuracy > 0.9
    assert result(litlab, "test/loss") == pytest.approx(expected, rel=1e-5)
    assert result(litlab, "test/acc") == pytest.approx(accuracy)
    assert result(litlab, "test/nll") == pytest.approx(log_loss(y, p.double()), rel=1e-5)
    assert litlab("predict", "x", *QUIET).code == 0
    with next(load_run("x").folder.path.glob("predictions*.csv")).open() as file:
        rows = list(csv.DictReader(file))
    classes = [int(row["prediction"]) for row in rows]
    assert classes == (p > 0.5).long().tolist()

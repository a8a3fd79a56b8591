"""The numbers that have an exact answer, through the command line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import load_run
from tests.experiments.conftest import Command

QUIET = ["--trainer.enable_model_summary=false", "--trainer.enable_progress_bar=false"]
EXACT = ["--model.optimizer=lbfgs", "--model.optimizer.line_search_fn=strong_wolfe", "--trainer.max_epochs=30"]

PRECISE = ["--model.optimizer.max_iter=100", "--model.optimizer.tolerance_change=0", "--trainer.max_epochs=60"]


def weights(run: str) -> tuple[np.ndarray, np.ndarray]:
    model = load_run(run).load("last")
    (weight, bias) = [parameter.detach().double().numpy() for parameter in model.parameters()]
    return weight, bias


def train_part(run: str) -> tuple[np.ndarray, np.ndarray]:
    """The training samples as the model saw them."""
    data = load_run(run).data
    data.setup("fit")
    batches = list(data.train_dataloader())
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    return x.flatten(1).double().numpy(), y.numpy()


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours.ravel() - theirs.ravel()) / np.linalg.norm(theirs))


def test_linear_line_ends_at_the_exact_line(litlab: Command) -> None:
    assert litlab("fit", "linear_line", *QUIET).code == 0
    weight, bias = weights("linear_line")
    assert weight.item() == pytest.approx(3, abs=0.01)
    assert bias.item() == pytest.approx(2, abs=0.01)


def test_two_x_plus_one_on_four_points(litlab: Command) -> None:
    words = ["--data.slope=2", "--data.intercept=1", "--data.low=1", "--data.high=4", "--data.num_samples=4"]
    assert litlab("fit", "linear_line", *QUIET, *words, "--data.val_split=0", *EXACT).code == 0
    weight, bias = weights("linear_line")
    assert (weight.item(), bias.item()) == pytest.approx((2, 1), abs=1e-3)


@pytest.mark.parametrize(
    "words",
    [["linear_line", "--data.noise=1.5", "--data.batch_size=16"], ["linear_noisy", "--data.batch_size=100"],
     ["linear_noisy", "--data.num_features=5", "--data.batch_size=100"]],
    ids=lambda words: " ".join(words),
)  # fmt: skip
def test_with_noise_it_is_least_squares_on_the_same_split(litlab: Command, words: list[str]) -> None:
    from sklearn.linear_model import LinearRegression

    assert litlab("fit", *words, *QUIET, *EXACT, "--model.scheduler=null").code == 0
    x, y = train_part(words[0])
    theirs = LinearRegression().fit(x, y.ravel())
    ours = weights(words[0])
    assert difference(np.append(*ours), np.append(theirs.coef_, theirs.intercept_)) < 1e-3


def test_logistic_threshold_puts_the_boundary_where_scikit_learn_does(litlab: Command) -> None:
    from sklearn.linear_model import LogisticRegression

    assert litlab("fit", "logistic_threshold", *QUIET).code == 0
    x, y = train_part("logistic_threshold")
    theirs = LogisticRegression(C=25, tol=1e-10, max_iter=10_000).fit(x, y)
    weight, bias = weights("logistic_threshold")
    assert difference(np.append(weight, bias), np.append(theirs.coef_, theirs.intercept_)) < 1e-3
    boundary = -bias.item() / weight.item()
    assert boundary == pytest.approx((-theirs.intercept_ / theirs.coef_[0]).item(), abs=1e-3)
    assert x[y == 0].max() < boundary < x[y == 1].min()


@pytest.mark.parametrize("data", ["PlanesDataModule", "MoonsDataModule"])
def test_binary_logistic_regression_matches_scikit_learn(litlab: Command, data: str) -> None:
    from sklearn.linear_model import LogisticRegression

    words = [
        f"--data={data}",
        "--data.val_split=0.2",
        "--data.batch_size=1000",
        "--data.num_samples=500",
        "--model.l2=0.01",
    ]
    assert litlab("fit", "logistic_threshold", *words, "--trainer.max_epochs=30", *QUIET).code == 0
    x, y = train_part("logistic_threshold")
    theirs = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-10, max_iter=10_000).fit(x, y)
    ours = weights("logistic_threshold")
    assert difference(np.append(*ours), np.append(theirs.coef_, theirs.intercept_)) < 1e-3


def test_softmax_regression_matches_scikit_learn(litlab: Command) -> None:
    from sklearn.linear_model import LogisticRegression

    words = ["--model=LitLogisticRegression", "--model.l2=0.02", "--model.scheduler=null", "--data.batch_size=2000"]
    assert litlab("fit", "mlp_digits", *words, *EXACT, *PRECISE, *QUIET).code == 0
    x, y = train_part("mlp_digits")
    theirs = LogisticRegression(C=1 / (0.02 * len(x)), tol=1e-10, max_iter=10_000).fit(x, y)
    weight, bias = weights("mlp_digits")
    assert difference(weight, theirs.coef_) < 1e-3
    # Softmax leaves the biases free up to a constant.
    assert difference(bias - bias.mean(), theirs.intercept_ - theirs.intercept_.mean()) < 1e-3


@pytest.mark.slow
def test_mlp_sine_reaches_a_thousandth(litlab: Command) -> None:
    assert litlab("fit", "mlp_sine", *QUIET, "--test_after_fit=true").code == 0
    assert load_run("mlp_sine").results[-1]["metrics"]["test/loss"] < 1e-3


@pytest.mark.slow
def test_the_demo_reads_digits(litlab: Command) -> None:
    assert litlab("fit", *QUIET, "--test_after_fit=true").code == 0
    assert load_run("mlp_digits").results[-1]["metrics"]["test/acc"] >= 0.95


@pytest.mark.slow
def test_lstm_text_writes_and_beats_a_table_of_pairs(litlab: Command) -> None:
    words = ["--trainer.limit_train_batches=60", "--trainer.max_epochs=2", "--model.layers=1", "--model.dropout=0"]
    assert litlab("fit", "lstm_text", *QUIET, *words, "--model.optimizer.lr=0.01", "--test_after_fit=true").code == 0
    run = load_run("lstm_text")
    data = run.data
    data.setup("fit")
    data.setup("test")
    assert run.results[-1]["metrics"]["test/loss"] < bigram_loss(data)
    text = (run.path / "generated.txt").read_text()
    assert "The " in text
    assert len(text) > 400


def bigram_loss(data: object) -> float:
    """Nats per token on the test windows of a table of token pairs, counted on the training windows plus one each."""
    size = data.vocab_size  # type: ignore[attr-defined]
    counts = torch.ones(size, size, dtype=torch.float64)
    for x, y in data.train_dataloader():  # type: ignore[attr-defined]
        counts.view(-1).index_add_(0, (x * size + y).flatten(), torch.ones(x.numel(), dtype=torch.float64))
    table = (counts / counts.sum(1, keepdim=True)).log()
    total = number = 0.0
    for x, y in data.test_dataloader():  # type: ignore[attr-defined]
        total -= float(table[x, y].sum())
        number += x.numel()
    assert math.isfinite(total)
    return total / number


def test_tests_number_does_not_depend_on_the_batch_size(litlab: Command) -> None:
    assert litlab("fit", *QUIET, "--trainer.max_epochs=2").code == 0
    for size in (1, 7, 360):
        assert litlab("test", "mlp_digits", f"--data.batch_size={size}").code == 0
    figures = [result["metrics"] for result in load_run("mlp_digits").results[1:]]
    assert len({round(f["test/acc"], 9) for f in figures}) == 1
    assert np.ptp([f["test/loss"] for f in figures]) < 1e-6
    assert not Path("data").exists()

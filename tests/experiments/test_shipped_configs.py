"""Every shipped config through the real command line: fit, test and predict, offline, on tiny files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import yaml

from experiments import load_run
from experiments.options import catalog
from tests.experiments.conftest import Command

FRAGMENTS = ("debug", "cpu_two_processes", "dashboards")
CONFIGS = [entry.name for entry in catalog.configs() if entry.name not in FRAGMENTS]
ON_FILES = ("mnist", "cifar10", "fast", "wide")

# Small enough for a second each, large enough that the loss falls.
SMALLER: dict[str, list[str]] = {
    "resnet_cifar10": ["--model.widths=[8,8,16,16]", "--trainer.max_epochs=3"],
    "cifar10_fast": ["--model.widths=[8,16]", "--model.optimizer.bias_lr=2"],
    "cnn_mnist_fast": ["--model.optimizer.bias_lr=2"],
    "resnet_fashion_wide": ["--model.widths=[8,8,16]", "--data.augment=[]"],
    "resnet_fashion_mnist": ["--model.widths=[8,8,16]", "--trainer.max_epochs=3"],
    "lstm_text": ["--model.hidden=32", "--trainer.limit_train_batches=15", "--trainer.limit_val_batches=2"],
}


def shrink(name: str) -> list[str]:
    words = ["--trainer.enable_model_summary=false"]
    if name.endswith(ON_FILES):
        words += ["--data.val_split=0.2", "--data.batch_size=16", "--data.download=false", "--trainer.max_epochs=4"]
    if "cifar10" in name:
        words += ["--data=tests.data.tiny_cifar10.TinyCIFAR10DataModule"]
    if name in ("linear_line", "mlp_sine"):
        words += ["--trainer.max_epochs=20"]
    if name == "lstm_text":
        words += ["--trainer.max_epochs=2"]
    if name == "mlp_digits":
        words += ["--trainer.max_epochs=5"]
    return words + SMALLER.get(name, [])


def ordered(words: list[str]) -> list[str]:
    """A class given by flag comes before the settings of that class."""
    return sorted(words, key=lambda word: not word.startswith("--data=tests"))


@pytest.mark.parametrize("name", CONFIGS)
def test_fit_test_and_predict(name: str, litlab: Command, workshop: Path) -> None:
    fitted = litlab("fit", name, *ordered(shrink(name)))
    assert fitted.code == 0, fitted.err
    run = load_run(name)
    assert run.path == workshop / "runs" / name / "0"
    assert f"litlab test {run.path.relative_to(workshop)}" in fitted.out

    losses = [row["train/loss"] for row in run.metrics if "train/loss" in row]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0], losses

    tested = litlab("test", name)
    assert tested.code == 0, tested.err
    assert "best.ckpt (epoch" in tested.out
    figures = run.results[-1]
    assert figures["verb"] == "test"
    assert figures["split"] == "test"

    # best.ckpt gives the validation figure again that made it the best.
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    monitor = config["monitor"]
    if monitor.startswith("val/"):
        assert litlab("validate", name).code == 0
        again, first = load_run(name).results[-1]["metrics"], run.results[0]["metrics"]
        assert again[monitor] == pytest.approx(first[monitor], rel=1e-6)

    predicted = litlab("predict", name)
    assert predicted.code == 0, predicted.err
    with (run.path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == figures["n"]
    assert [int(row["sample"]) for row in rows] == list(range(len(rows)))
    assert "target" in rows[0]
    assert "prediction" in rows[0]
    probabilities = [name for name in rows[0] if name.startswith("p_")]
    for row in rows[:3] if probabilities else []:
        assert sum(float(row[name]) for name in probabilities) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_a_page_that_explains_itself(name: str) -> None:
    path = {entry.name: entry.path for entry in catalog.configs()}[name]
    text = path.read_text()
    comment = text[: text.index("\nmonitor:")]
    for word in ("Shows:", "Expect:", "Time:", "Try:"):
        assert word in comment, f"{name} does not say {word}"
    content = yaml.safe_load(text)
    assert [key for key in content if key in ("data", "model", "trainer")] == ["data", "model", "trainer"]
    assert content["mode"] in ("min", "max")


def test_the_debug_fragment_runs_two_batches_of_everything(litlab: Command) -> None:
    assert litlab("fit", "mlp_digits", "debug").code == 0
    run = load_run("mlp_digits")
    assert max(row["step"] for row in run.metrics) <= 2
    assert litlab("test", "mlp_digits").code == 0


def test_what_is_suggested_to_try_parses(litlab: Command) -> None:
    """The lines after `Try:` are typed by every reader."""
    import shlex

    for entry in catalog.configs():
        comment = [line.lstrip("# ") for line in entry.path.read_text().splitlines() if line.startswith("#")]
        tries = [line.removeprefix("Try:") for line in comment if line.startswith("Try:")]
        for line in tries:
            words = [word for word in shlex.split(line) if word]
            flags = [word for i, word in enumerate(words) if word.startswith("--") or words[i - 1].startswith("--")]
            if "my_book.txt" in flags:
                flags = flags[2:]
            result = litlab("fit", entry.name, *flags, "--print_config")
            assert result.code == 0, (entry.name, flags, result.err)


def test_results_say_what_made_each_figure(litlab: Command) -> None:
    assert litlab("fit", "mlp_digits", "--trainer.max_epochs=1", "--test_after_fit=true").code == 0
    run = load_run("mlp_digits")
    fitted, tested = json.loads((run.path / "results.json").read_text())
    assert fitted["n"] == 287
    assert tested["n"] == 360
    assert tested["checkpoint"] == "checkpoints/best.ckpt"
    assert len(tested["checkpoint_sha256"]) == 64
    assert tested["epoch"] == 0
    assert {"train_data", "split", "test_data"} <= set(tested["sha256"])

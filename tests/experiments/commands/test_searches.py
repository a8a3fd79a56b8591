"""LearningRateFinder and BatchSizeFinder: the run trains with the value that config.yaml then contains."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import DigitsDataModule
from lit_models import LitMLP
from litlab import fit
from tests.experiments.conftest import Command

BASE = ("fit", "mlp_digits", "--trainer.max_epochs", "4", "--model.hidden", "[16]", "--trainer.logger", "true")
RATE = ("--trainer.callbacks+=LearningRateFinder", "--trainer.callbacks.min_lr", "0.0001")
SIZE = ("--trainer.callbacks+=BatchSizeFinder", "--trainer.callbacks.max_val", "256")

pytestmark = pytest.mark.filterwarnings("ignore")


def config(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(Path(f"runs/{name}/0/config.yaml").read_text())
    return content


def rows(name: str) -> list[list[float]]:
    """All values of metrics.csv; an empty field is 0."""
    lines = Path(f"runs/{name}/0/metrics.csv").read_text().splitlines()
    return [[float(row[key] or 0) for key in sorted(row)] for row in csv.DictReader(lines)]


@pytest.mark.parametrize("schedule", ["null", "cosine", "onecycle", "cyclic", "warmup_cosine", "plateau"])
@pytest.mark.parametrize("search", [RATE, SIZE], ids=["rate", "size"])
def test_a_searched_run_equals_one_that_gets_the_values(
    litlab: Command, search: tuple[str, ...], schedule: str
) -> None:
    searched = litlab(*BASE, "--model.scheduler", schedule, *search, "--experiment", "searched")
    assert searched.code == 0, searched.err
    found = config("searched")
    rate, size = found["model"]["init_args"]["optimizer"]["lr"], found["data"]["init_args"]["batch_size"]
    name, value = ("model.optimizer.lr was 0.003", rate) if search is RATE else ("data.batch_size was 32", size)
    assert f"{name} and is now {value}; config.yaml contains the new value." in searched.err
    given = ("--model.optimizer.lr", str(rate), "--data.batch_size", str(size))
    plain = litlab(*BASE, "--model.scheduler", schedule, *given, "--experiment", "plain")
    assert plain.code == 0, plain.err
    ours, reference = rows("searched"), rows("plain")
    assert len(ours) == len(reference)
    for row, expected in zip(ours, reference, strict=True):
        assert row == pytest.approx(expected, rel=1e-5)
    content = torch.load("runs/searched/0/checkpoints/last.ckpt", weights_only=True)
    assert yaml.safe_load(content["config"]) == found
    assert content["hyper_parameters"]["optimizer"]["lr"] == rate
    assert content["datamodule_hyper_parameters"]["batch_size"] == size


def test_a_searched_run_resumes_without_another_search_and_repeats(litlab: Command) -> None:
    assert litlab(*BASE, "--model.scheduler", "null", *RATE, "--experiment", "searched").code == 0
    before = config("searched")
    resumed = litlab("resume", "searched", "--trainer.max_epochs", "6")
    assert resumed.code == 0, resumed.err
    assert "LearningRateFinder" not in resumed.err
    before["trainer"]["max_epochs"] = 6
    assert config("searched") == before
    plain = litlab(*BASE, "--trainer.max_epochs", "6", "--model.scheduler", "null", *RATE, "--experiment", "plain")
    assert plain.code == 0, plain.err
    epochs = json.loads(Path("runs/plain/0/results.json").read_text())[-1]["metrics"]
    assert json.loads(Path("runs/searched/0/results.json").read_text())[-1]["metrics"] == epochs


@pytest.mark.parametrize("after_fit", ["true", "false"])
def test_a_test_searches_nothing(litlab: Command, after_fit: str) -> None:
    run = litlab(*BASE, *SIZE, "--test_after_fit", after_fit, "--experiment", "searched")
    assert run.code == 0, run.err
    assert run.err.count("BatchSizeFinder") == 1
    before = Path("runs/searched/0/config.yaml").read_bytes()
    tested = litlab("test", "searched")
    assert tested.code == 0, tested.err
    assert "batch size" not in tested.err + tested.out
    assert "test  2 batches" in tested.out + tested.err  # 360 samples in batches of 256
    assert Path("runs/searched/0/config.yaml").read_bytes() == before


def test_a_python_run_is_searched_and_checked_too(workshop: Path) -> None:
    both = {"optimizer": {"name": "sgd", "lr": 1.0}, "scheduler": {"name": "onecycle", "max_lr": 0.1}}
    with pytest.raises(MisconfigurationException, match=r"would ignore optimizer.lr 1.0"):
        fit(LitMLP((1, 8, 8), 10, hidden=(8,), **both), DigitsDataModule(), max_epochs=1)
    model = LitMLP((1, 8, 8), 10, hidden=(8,), scheduler="cosine")
    search = LearningRateFinder(min_lr=1e-4)
    run = fit(model, DigitsDataModule(batch_size=32), experiment="python", max_epochs=4, callbacks=[search])
    assert search.optimal_lr is not None
    found = search.optimal_lr.suggestion()
    assert model.learning_rate == found
    assert config("python")["model"]["init_args"]["optimizer"] == {"name": "adam", "lr": found}
    assert run.model.hparams["optimizer"]["lr"] == found


def test_a_run_of_an_earlier_version_with_two_rates_is_repeated(litlab: Command) -> None:
    assert litlab(*BASE, "--experiment", "old").code == 0
    document = config("old")
    document["model"]["init_args"]["scheduler"] = {"name": "onecycle", "max_lr": 0.1}
    Path("runs/old/0/config.yaml").write_text(yaml.safe_dump(document))
    assert litlab("rerun", "old").code == 0
    again = litlab("fit", "runs/old/0/config.yaml")
    assert again.code == 2
    assert "would ignore optimizer.lr 0.003" in again.sentence


REJECTED = {
    "max_lr": ((*RATE, "--model.scheduler", "{name: onecycle, max_lr: 0.1}"), "would ignore the learning rate"),
    "both rates": (("--model.scheduler", "{name: onecycle, max_lr: 0.1}"), "would ignore optimizer.lr 0.003"),
    "several steps": ((*SIZE, "--steps_per_call", "4"), "steps_per_call must be 1 with the callback BatchSizeFinder"),
}


@pytest.mark.parametrize("name", list(REJECTED))
def test_what_a_schedule_or_a_search_would_override_is_rejected(litlab: Command, name: str) -> None:
    options, words = REJECTED[name]
    result = litlab(*BASE, *options)
    assert result.code == 2
    assert words in result.sentence
    assert not list(Path().glob("runs/*/*"))


def test_a_search_needs_a_run_of_its_own_and_one_learning_rate(litlab: Command) -> None:
    assert litlab(*BASE, "--experiment", "first").code == 0
    started = litlab(*BASE, *RATE, "--ckpt_path", "runs/first/0/checkpoints/last.ckpt", "--trainer.max_epochs", "9")
    assert started.code == 2
    assert "cannot search in a run that starts from a checkpoint" in started.sentence
    muon = litlab(*BASE, *RATE, "--model.optimizer", "muon", "--experiment", "several")
    assert muon.code == 2
    assert "Muon has several learning rates" in muon.sentence


def test_one_rate_that_counts(litlab: Command) -> None:
    both = [("--model.optimizer", "sgd", "--model.scheduler", "{name: onecycle, max_lr: 0.1}")]
    both.append(("--model.optimizer", "{name: sgd, lr: 0.1}", "--model.scheduler", "onecycle"))
    for name, options in zip(("by_schedule", "by_optimizer"), both, strict=True):
        assert litlab(*BASE, *options, "--experiment", name).code == 0
    assert rows("by_schedule") == rows("by_optimizer")

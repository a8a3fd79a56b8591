"""Run folders made by litlab before its packages were divided into folders, commit 45779aa: they go on as they were.

tests/data/old_runs.tar.xz holds `finished`, a run of two epochs with its test; `stopped`, a run that got SIGTERM in its
second epoch of three; and `whole_weights.pt`, the weights at the end of a run like `stopped` that was never stopped.
"""

from __future__ import annotations

import csv
import importlib
import json
import tarfile
from pathlib import Path

import pytest
import torch

from experiments import load_run
from experiments.machine.hardware import processor
from experiments.options.config_diff import with_public_paths
from litlab.packages import claim_names
from tests.experiments.conftest import Command

DATA = Path(__file__).parents[2] / "data"
CLASS_PATHS = (DATA / "old_class_paths.txt").read_text().split()


@pytest.fixture
def runs(workshop: Path) -> Path:
    """The old runs, in `runs` of the working folder."""
    with tarfile.open(DATA / "old_runs.tar.xz") as archive:
        archive.extractall(workshop, filter="data")
    for name in ("finished", "stopped"):
        (workshop / "runs" / name).mkdir(parents=True)
        (workshop / "old_runs" / name).rename(workshop / "runs" / name / "0")
    return workshop / "runs"


def test_it_is_listed_and_loads(litlab: Command, runs: Path) -> None:
    listed = litlab("list", "runs")
    assert listed.code == 0
    assert "finished" in listed.out
    assert "stopped" in listed.out
    run = load_run("finished")
    assert [record["verb"] for record in run.results] == ["fit", "test"]
    assert run.model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert type(load_run("stopped").load("last")).__name__ == "LitMLP"


def test_it_tests_and_predicts_with_the_same_numbers(litlab: Command, runs: Path) -> None:
    for verb, stored in (("test", 1), ("validate", 0)):
        result = litlab(verb, "finished")
        assert result.code == 0, result.err
        records = load_run("finished").results
        assert records[-1]["metrics"] == pytest.approx(records[stored]["metrics"], abs=1e-6)
    result = litlab("predict", "finished")
    assert result.code == 0, result.err
    with (runs / "finished/0/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["prediction"] == row["target"] for row in rows) / len(rows)
    assert right == pytest.approx(load_run("finished").results[1]["metrics"]["test/acc"], abs=1e-6)


def test_a_stopped_run_ends_with_the_weights_of_one_that_was_never_stopped(litlab: Command, runs: Path) -> None:
    record = json.loads((runs / "stopped/0/environment.json").read_text())
    result = litlab("resume", "stopped")
    assert result.code == 0, result.err
    assert "from step 14" in result.out
    weights = torch.load(runs / "stopped/0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    expected = torch.load(runs.parent / "old_runs/whole_weights.pt", weights_only=True)
    assert weights.keys() == expected.keys()
    same = (record["hardware"]["processor"], record["versions"]["torch"]) == (processor(), str(torch.__version__))
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=0 if same else 1e-5)


def test_a_finished_run_becomes_longer(litlab: Command, runs: Path) -> None:
    result = litlab("resume", "finished", "--trainer.max_epochs=3")
    assert result.code == 0, result.err
    assert load_run("finished").results[-2]["steps"] == 27


def test_it_reruns(litlab: Command, runs: Path) -> None:
    result = litlab("rerun", "finished")
    assert result.code == 0, result.err
    new = load_run("finished")
    assert new.path == runs / "finished/1"
    assert new.results[0]["metrics"] == pytest.approx(load_run(runs / "finished/0").results[0]["metrics"], abs=1e-5)
    assert litlab("rerun", "stopped").code == 0
    differs = json.loads((runs / "stopped/1/environment.json").read_text())["rerun_of"]["differs"]
    assert "settings" not in differs, "the same classes by other paths"


def test_the_next_config_has_the_shortest_class_paths(litlab: Command, runs: Path) -> None:
    old = (runs / "stopped/0/config.yaml").read_text()
    assert "lit_models.mlp.LitMLP" in old
    assert "callbacks.summary.ModelTable" in old
    assert litlab("fit", "runs/stopped/0/config.yaml", "--trainer.max_epochs=1", "--experiment=again").code == 0
    new = (runs / "again/0/config.yaml").read_text()
    for path in ("lit_models.LitMLP", "datamodules.DigitsDataModule", "callbacks.Gradients", "callbacks.ModelTable"):
        assert f"class_path: {path}\n" in new


@pytest.mark.parametrize("path", CLASS_PATHS)
def test_class_paths_of_the_old_layout_still_name_the_class(path: str) -> None:
    claim_names()
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    public = getattr(importlib.import_module(module.partition(".")[0]), name, None)
    assert isinstance(found, type)
    if public is not None:
        assert found is public
        assert with_public_paths({"class_path": path})["class_path"] == f"{module.partition('.')[0]}.{name}"

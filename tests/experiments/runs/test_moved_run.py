"""A run folder that was copied, moved or renamed can be tested and resumed; files in the old place do not change."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from experiments import load_run
from tests.edited_checkpoints import save_edited
from tests.experiments.commands.test_resume import STOP, equal, rows, stopping
from tests.experiments.conftest import Command

SMALL = ("--trainer.max_epochs=3", "--data.batch_size=128", "--model.dropout=0.2", "--trainer.log_every_n_steps=2")
RUN = Path("runs/mlp_digits/0")


@pytest.fixture
def stopped(litlab: Command, workshop: Path) -> Path:
    """The folder of a run that was stopped in its second epoch."""
    (workshop / "stop.py").write_text(STOP)
    assert litlab("fit", "mlp_digits", *SMALL, *stopping(20)).code == 130
    return (workshop / RUN).resolve()


@pytest.fixture
def away(workshop: Path) -> Path:
    """Another working folder."""
    folder = workshop / "another place"
    folder.mkdir()
    return folder


def fingerprint(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of all files in a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def change_to(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Change to the folder, with a copy of the module that the config of the run names."""
    shutil.copy("stop.py", folder)
    Path("stopped").unlink(missing_ok=True)
    monkeypatch.chdir(folder)
    (folder / "stopped").touch()  # so that the callback does not stop the run again


@pytest.mark.parametrize("how", ["copied", "moved", "experiment renamed", "whole runs folder"])
def test_a_stopped_run_resumes_elsewhere_with_the_same_weights(
    litlab: Command, stopped: Path, away: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    reference = away.parent / "reference"
    shutil.copytree(stopped.parents[1], reference / "runs")
    target, old = away / "copy", fingerprint(stopped)
    if how == "copied":
        shutil.copytree(stopped, target)
        (stopped / "checkpoints/last.ckpt").write_bytes(b"must not be read")
        old = fingerprint(stopped)
    elif how == "moved":
        shutil.move(stopped, target)
    elif how == "experiment renamed":
        target = away / "runs/renamed/0"
        target.parent.mkdir(parents=True)
        shutil.move(stopped, target)
    else:
        shutil.move(stopped.parents[1], away / "runs")
        target = away / "runs/mlp_digits/0"
    change_to(monkeypatch, away)
    result = litlab("resume", {"experiment renamed": "renamed", "whole runs folder": "mlp_digits"}.get(how, "copy"))
    assert result.code == 0, result.err
    assert "from step 20" in result.out
    if how == "copied":
        assert fingerprint(stopped) == old
    else:
        assert not stopped.exists()
    (away.parent / "stopped").touch()
    monkeypatch.chdir(away.parent)
    assert litlab("resume", "reference/runs/mlp_digits/0").code == 0
    there = reference / "runs/mlp_digits/0"
    assert equal(target, there)
    assert [row["val/loss"] for row in rows(target)] == [row["val/loss"] for row in rows(there)]
    best = [torch.load(run / "checkpoints/best.ckpt", weights_only=True) for run in (target, there)]
    assert best[0]["epoch"] == best[1]["epoch"]
    assert str(stopped) not in str(best[0]["callbacks"]), "the paths are those of the new folder"


def test_a_finished_run_can_be_tested_elsewhere(
    litlab: Command, workshop: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert litlab("fit", "mlp_digits", *SMALL).code == 0
    assert litlab("test", "mlp_digits").code == 0
    stopped = (workshop / RUN).resolve()
    shutil.copytree(stopped.parents[1], away / "runs")
    (stopped / "checkpoints/best.ckpt").write_bytes(b"must not be read")
    old = fingerprint(stopped)
    monkeypatch.chdir(away)
    figures = [load_run("mlp_digits").results[-1]["metrics"]]
    for verb in ("test", "validate", "predict"):
        result = litlab(verb, "mlp_digits")
        assert result.code == 0, result.err
        assert str(workshop / "runs") not in result.out
    assert litlab("test", str(away / "runs/mlp_digits/0")).code == 0
    assert "is finished" in litlab("resume", "mlp_digits").out
    listed = litlab("list", "runs").out
    assert "mlp_digits" in listed
    run = load_run(away / RUN)
    assert run.path == away / RUN
    assert [record["verb"] for record in run.results] == ["fit", "test", "test", "validate", "test"]
    assert [record["metrics"] for record in run.results if record["verb"] == "test"] == figures * 3
    assert run.model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert run.test() == figures[0]
    assert (away / RUN / "predictions.csv").is_file()
    assert fingerprint(stopped) == old


def test_a_run_of_another_version_resumes_with_a_note(litlab: Command, stopped: Path) -> None:
    environment = stopped / "environment.json"
    record = json.loads(environment.read_text())
    record["versions"] |= {"litlab": "0.0.7", "torch": "2.9.1"}
    environment.write_text(json.dumps(record))
    last = stopped / "checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    assert content["litlab"]["format"] == 1
    content["litlab"]["version"] = "0.0.7"
    save_edited(content, last)
    result = litlab("resume", "mlp_digits")
    assert result.code == 0, result.err
    notes = [line for line in result.out.splitlines() if line.startswith("note ")]
    assert len(notes) == 1
    assert "started with litlab 0.0.7 (now 0." in notes[0]
    assert "torch 2.9.1 (now " in notes[0]
    assert litlab("test", "mlp_digits").code == 0


def test_a_run_of_the_same_version_resumes_without_a_note(litlab: Command, stopped: Path) -> None:
    assert "note " not in litlab("resume", "mlp_digits").out


def test_a_checkpoint_without_a_format_number_resumes(litlab: Command, stopped: Path) -> None:
    last = stopped / "checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    del content["litlab"]
    save_edited(content, last)
    assert litlab("resume", "mlp_digits").code == 0


def test_a_later_format_is_rejected_with_both_versions(litlab: Command, stopped: Path) -> None:
    last = stopped / "checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    content["litlab"] = {"version": "9.0", "format": 2}
    save_edited(content, last)
    before = fingerprint(stopped)
    result = litlab("resume", "mlp_digits")
    assert result.code == 2
    assert "litlab 9.0 in format 2, and this is litlab 0." in result.sentence
    assert fingerprint(stopped) == before


@pytest.mark.parametrize("verb", ["test", "resume"])
def test_a_checkpoint_of_another_model_is_rejected(litlab: Command, stopped: Path, verb: str) -> None:
    words = ("--trainer.max_epochs=1", "--model.hidden=[16]", "--experiment=other")
    assert litlab("fit", "mlp_digits", *words).code == 0
    for name in ("best", "last"):
        shutil.copy(f"runs/other/0/checkpoints/{name}.ckpt", stopped / f"checkpoints/{name}.ckpt")
    before = fingerprint(stopped)
    result = litlab(verb, "mlp_digits")
    assert result.code == 2
    assert "belongs to another model: net.layers.0.weight is 16x64 there and 128x64 in LitMLP" in result.sentence
    assert fingerprint(stopped) == before

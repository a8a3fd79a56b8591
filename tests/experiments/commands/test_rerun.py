"""`litlab rerun RUN [--check]`: a run repeats, bit for bit, and what keeps it from repeating is named."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import DigitsDataModule
from experiments import fit, load_run
from experiments.commands.rerun_reference import ReferenceRun
from experiments.runs.folder import RunFolder
from lit_models import LitMLP
from tests.experiments.commands.test_resume import STOP, stopping
from tests.experiments.conftest import ROOT, Command

DIGITS = ("mlp_digits", "--trainer.max_epochs=2", "--data.batch_size=256", "--model.dropout=0.2",
          "--trainer.log_every_n_steps=2", "--trainer.enable_model_summary=false")  # fmt: skip
RUN, AGAIN = Path("runs/mlp_digits/0"), Path("runs/mlp_digits/1")
FILES = ("--data.val_split=0.2", "--data.batch_size=32", "--data.download=false", "--trainer.max_epochs=2",
         "--trainer.enable_model_summary=false")  # fmt: skip
KINDS: dict[str, tuple[str, ...]] = {
    "linear regression": ("linear_noisy", "--trainer.max_epochs=2"),
    "logistic regression": ("logistic_mnist", *FILES),
    "mlp": DIGITS,
    "cnn": ("cnn_fashion_mnist", *FILES),
    "resnet": ("resnet_fashion_mnist", *FILES, "--model.widths=[8,8,16]"),
    "lstm": ("lstm_mnist", *FILES, "--model.hidden=16"),
}


def environment(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "environment.json").read_text())
    return found


@pytest.fixture(autouse=True)
def _flags_as_before() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param((), id="as it is"),
        pytest.param(("--trainer.deterministic=true",), id="deterministic", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_repeats_bit_for_bit(
    litlab: Command, workshop: Path, kind: str, extra: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as Lightning sets it, and would leave it
    first = litlab("fit", *KINDS[kind])
    assert first.code == 0, first.err
    again = litlab("rerun", KINDS[kind][0], "--check", *extra)
    assert again.code == 0, again.out + again.err
    assert "agree   all " in again.out
    assert "and all weights are equal, bit for bit" in again.out
    flag = "differs settings: trainer.deterministic none -> true"
    assert [line for line in again.out.splitlines() if line.startswith("differs")] == [flag, flag] * bool(extra)
    runs = [workshop / "runs" / KINDS[kind][0] / number for number in "01"]
    states = [torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in runs]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert extra or (runs[0] / "config.yaml").read_text() == (runs[1] / "config.yaml").read_text()
    assert (runs[0] / "metrics.csv").read_text() == (runs[1] / "metrics.csv").read_text()


def test_agreement_counts_every_figure_and_is_written_down(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS, "--test_after_fit=true").code == 0
    result = litlab("rerun", str(RUN), "--check")
    assert result.code == 0, result.out + result.err
    with (RUN / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    results = json.loads((RUN / "results.json").read_text())
    cells = sum(bool(cell) for row in rows for name, cell in row.items() if name != "step")
    beside = sum(len(record["metrics"]) for record in results) + 9  # epoch, step, split, n of both; steps of the fit
    assert f"all {cells + beside} values in {len(rows)} rows and all weights" in result.out
    record = environment(AGAIN)["rerun_of"]
    assert record["run"] == str(workshop / RUN)
    assert record["started"] == environment(RUN)["started"]
    assert record["differs"] == {}
    assert record["check"]["agrees"] is True
    assert record["check"]["weights"] == {"best.ckpt": None, "last.ckpt": None}


def test_without_check_it_only_trains(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS).code == 0
    result = litlab("rerun", "mlp_digits")
    assert result.code == 0
    assert "repeats runs/mlp_digits/0\n" in result.out
    assert "agree" not in result.out
    assert "check" not in environment(AGAIN)["rerun_of"]


@pytest.mark.slow
def test_the_machines_choices_are_taken_over(litlab: Command, workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("cnn_fashion_mnist", *FILES, "--trainer.max_epochs=1")
    assert litlab("fit", *words, "--trainer.precision=bf16-mixed", "--threads=2").code == 0
    run = Path("runs/cnn_fashion_mnist/0")
    config = (run / "config.yaml").read_text()  # as if the machine had made that choice by itself
    config = config.replace("precision: bf16-mixed", "precision: null").replace("threads: 2", "threads: null")
    (run / "config.yaml").write_text(config)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = litlab("rerun", "cnn_fashion_mnist", "--check")
    assert result.code == 0, result.out + result.err
    chosen = environment(Path("runs/cnn_fashion_mnist/1"))["chosen"]
    assert (chosen["precision"], chosen["channels_last"], chosen["threads"]) == ("bf16-mixed", True, 2)
    plain = litlab("rerun", str(run), "--check", "--trainer.precision=32-true", "--threads=1")
    assert plain.code == 1
    assert "precision bf16-mixed -> 32-true" in plain.out
    assert "differs hardware: threads 2 -> 1" in plain.out


@pytest.mark.parametrize("gpus", [1, 4])
def test_as_many_devices_are_taken_as_the_run_had_where_they_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    run = ReferenceRun(RunFolder(tmp_path), {"chosen": {"accelerator": "CUDAAccelerator", "devices": 2}}, False)
    both = {"accelerator": "cuda", "devices": 2} if gpus == 4 else {}
    assert run.devices({"accelerator": "auto", "devices": "auto"}) == both
    assert run.devices({"accelerator": "gpu", "devices": "auto"}) == ({"devices": 2} if both else {})
    assert run.devices({"accelerator": "auto", "devices": 1}) == ({"accelerator": "cuda"} if both else {})
    assert run.devices({"accelerator": "cpu", "devices": "auto"}) == {}


def test_a_run_that_ends_within_an_epoch_or_logs_nothing_repeats(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS, "--trainer.max_steps=7").code == 0
    assert litlab("rerun", "mlp_digits", "--check").code == 0
    result = litlab("rerun", "mlp_digits", "--check", "--trainer.logger=false")
    assert result.code == 0, result.out + result.err
    assert "not compared: metrics.csv, not in runs/mlp_digits/2" in result.out


def test_a_repeat_repeats(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS).code == 0
    assert litlab("rerun", "mlp_digits").code == 0
    result = litlab("rerun", "mlp_digits", "--check")
    assert result.code == 0, result.out + result.err
    assert "repeats runs/mlp_digits/1\n" in result.out
    assert environment(Path("runs/mlp_digits/2"))["rerun_of"]["run"] == str(workshop / AGAIN)


def test_a_run_that_was_stopped_and_resumed_repeats(litlab: Command, workshop: Path) -> None:
    (workshop / "stop.py").write_text(STOP)
    assert litlab("fit", *DIGITS, *stopping(7)).code == 130
    refused = litlab("rerun", "mlp_digits", "--check")
    assert refused.code == 2
    assert "is not finished" in refused.sentence
    assert "litlab resume runs/mlp_digits/0" in refused.sentence
    assert litlab("resume", "mlp_digits").code == 0
    result = litlab("rerun", "mlp_digits", "--check")
    assert result.code == 0, result.out + result.err
    assert "differs" not in result.out


def test_a_run_that_was_only_made_longer_repeats_and_one_with_another_schedule_does_not(
    litlab: Command, workshop: Path
) -> None:
    assert litlab("fit", *DIGITS, "--model.scheduler=null").code == 0
    assert litlab("resume", "mlp_digits", "--trainer.max_epochs=3").code == 0
    result = litlab("rerun", "mlp_digits", "--check")
    assert result.code == 0, result.out + result.err
    assert "differs" not in result.out
    assert litlab("fit", *DIGITS, "--experiment=other").code == 0
    assert litlab("resume", "other", "--trainer.max_epochs=3", "--extend_schedule=hold").code == 0
    result = litlab("rerun", "other", "--check")
    assert result.code == 1, result.out + result.err
    assert "extend_schedule (from step 10 on) none -> hold" in result.out.partition("Trained")[0]


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # Lightning's, for a new run from another one's file
def test_a_run_from_a_checkpoint_starts_from_the_same_file_or_not_at_all(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS, "--model.scheduler=null").code == 0
    shutil.copy(RUN / "checkpoints/last.ckpt", "start.ckpt")
    words = (*DIGITS, "--model.scheduler=null", "--trainer.max_epochs=4", "--experiment=later")
    assert litlab("fit", *words, "--ckpt_path=start.ckpt").code == 0
    assert environment(Path("runs/later/0"))["started_from"]["checkpoint"] == str(workshop / "start.ckpt")
    result = litlab("rerun", "later", "--check")
    assert result.code == 0, result.out + result.err
    shutil.copy(RUN / "checkpoints/last.ckpt", "copy.ckpt")
    with Path("start.ckpt").open("ab") as file:
        file.write(b"\0")
    result = litlab("rerun", "later", "--check")
    assert result.code == 2
    assert "was started from start.ckpt, which has changed since. Pass the file with --ckpt_path." in result.sentence
    Path("start.ckpt").unlink()
    assert "start.ckpt, which was not found" in litlab("rerun", "later").sentence
    assert litlab("rerun", "later", "--check", "--ckpt_path=copy.ckpt").code == 0


def test_what_cannot_be_repeated_is_refused_before_anything_is_made(litlab: Command, workshop: Path) -> None:
    model = LitMLP(input_shape=(1, 8, 8), num_classes=10, hidden=(16,))
    fit(model, DigitsDataModule(), experiment="built", max_epochs=1, enable_progress_bar=False)
    fit("mlp_digits", callbacks=[Callback()], max_epochs=1, enable_progress_bar=False)
    assert "(model, data)" in (result := litlab("rerun", "built")).sentence
    assert result.code == 2
    assert (
        "cannot be written to config.yaml (trainer.callbacks)"
        in (result := litlab("rerun", "mlp_digits", "--check")).sentence
    )
    assert result.code == 2
    assert litlab("fit", *DIGITS).code == 0
    for word in ("--trainer.fast_dev_run=1", "--model.hidden=x", "--chekc"):
        assert litlab("rerun", str(AGAIN), "--check", word).code == 2
    weights = (AGAIN / "checkpoints/best.ckpt").read_bytes()
    (AGAIN / "checkpoints/best.ckpt").write_bytes(weights[:2000])
    assert "cannot be loaded: it is corrupted" in litlab("rerun", str(AGAIN), "--check").sentence
    for spoilt in ({"chosen": {"devices": "two"}}, {"started_from": {"checkpoint": 3}}, {"resumed": [{"changed": 1}]}):
        (AGAIN / "environment.json").write_text(json.dumps(environment(RUN) | spoilt))
        assert "environment.json is missing or corrupted" in litlab("rerun", str(AGAIN), "--check").sentence
    (AGAIN / "environment.json").write_text("{")
    assert "environment.json is missing or corrupted" in litlab("rerun", str(AGAIN)).sentence
    (AGAIN / "config.yaml").unlink()
    assert litlab("rerun", str(AGAIN)).code == 2
    assert "needs a run" in litlab("rerun").sentence
    assert "takes one run" in litlab("rerun", "a", "b").sentence
    assert "neither a run folder" in litlab("rerun", "nothing").sentence
    assert sorted(path.name for path in Path("runs/mlp_digits").iterdir()) == ["0", "1"]


def test_signals_and_a_loss_that_is_not_finite_end_a_repeat_as_they_end_a_fit(litlab: Command, workshop: Path) -> None:
    (workshop / "stop.py").write_text(STOP)
    assert litlab("fit", *DIGITS).code == 0
    result = litlab("rerun", "mlp_digits", "--check", *stopping(7, signal.SIGTERM))
    assert result.code == 143
    assert "resume  litlab resume runs/mlp_digits/1" in result.err
    assert "agree" not in result.out
    assert litlab("resume", str(AGAIN)).code == 0
    found = load_run(AGAIN).compare(RUN)
    assert found.agrees, found.lines()
    assert list(found.differs) == ["settings"]
    result = litlab("rerun", str(RUN), "--check", "--model.optimizer.lr=1e30", "--model.scheduler=null")
    assert result.code == 1
    assert "The training loss was NaN" in result.err


def test_from_python(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS).code == 0
    run = load_run("mlp_digits")
    again = run.rerun()
    assert again.path == workshop / AGAIN
    assert again.compare(run).agrees
    other = run.rerun(seed_everything=3).compare("runs/mlp_digits/0")
    assert not other.agrees
    assert other.differs == {"settings": {"seed_everything": [42, 3]}}
    shutil.rmtree(RUN)
    with pytest.raises(MisconfigurationException, match="rerun: "):
        run.rerun()


def test_help_and_completion_know_it(litlab: Command, workshop: Path) -> None:
    assert "litlab rerun RUN [--check]" in litlab().out
    assert litlab("rerun", "--help").out.startswith("usage: litlab rerun RUN [--check]")
    assert " rerun " in litlab("completion", "bash").out
    assert "--check" in litlab("completion", "fish").out
    assert "--trainer.max_epochs" in litlab("rerun", "--help-all").out


@pytest.mark.slow
def test_two_processes_repeat_the_same_run(workshop: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "experiments"]
    for words in (["fit", *DIGITS, "cpu_two_processes"], ["rerun", "mlp_digits", "--check"]):
        if words[0] == "fit":
            words = ["fit", "mlp_digits", "cpu_two_processes", *DIGITS[1:]]
        done = subprocess.run([*command, *words], cwd=workshop, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("agree   all") == 1
    assert "has no weights yet" not in done.stderr
    assert {path.name for path in (workshop / "runs/mlp_digits").iterdir()} == {"0", "1"}

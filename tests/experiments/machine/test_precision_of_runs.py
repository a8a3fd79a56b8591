"""Runs in bf16: printed, recorded, repeated and tested in the precision of the training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import load_run
from experiments.machine import hardware
from tests.experiments.commands.test_fit import last_losses
from tests.experiments.conftest import Command

CNN = ["cnn_mnist", "--data.val_split=0.2", "--data.batch_size=16", "--trainer.max_epochs=2", "--data.download=false"]
QUIET = ["--trainer.enable_model_summary=false"]


@pytest.fixture(autouse=True)
def amx(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU with AMX."""
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: ({"processor": "0", "flags": "fpu amx_bf16"},))


def test_a_run_repeats_and_is_tested_in_the_precision_of_its_training(litlab: Command, workshop: Path) -> None:
    fitted = litlab("fit", *CNN, *QUIET, "--test_after_fit=true")
    assert fitted.code == 0, fitted.err
    line = "device  CPU, 1 thread, precision bf16-mixed (fast bfloat16: amx_bf16), channels-last"
    assert line in fitted.out.splitlines()

    run = load_run("cnn_mnist")
    chosen = run.environment["chosen"]
    assert chosen["precision"] == "bf16-mixed"
    assert chosen["precision_reason"] == "fast bfloat16: amx_bf16"
    assert chosen["channels_last"] is True
    assert run.config["trainer"]["precision"] is None, "as given, so that another machine decides for itself"
    tested = litlab("test", "cnn_mnist")
    assert tested.code == 0, tested.err
    after, alone = load_run("cnn_mnist").results[-2:]
    assert after["metrics"] == alone["metrics"]
    assert (after["precision"], alone["precision"]) == ("bf16-mixed", "bf16-mixed")
    plain = litlab("test", "cnn_mnist", "--trainer.precision=32-true")
    assert plain.code == 0, plain.err
    assert load_run("cnn_mnist").results[-1]["precision"] == "32-true"

    assert litlab("fit", "--config", str(run.path / "config.yaml")).code == 0
    assert last_losses("runs/cnn_mnist/1") == last_losses("runs/cnn_mnist/0")


def test_a_run_folder_with_the_former_timing_still_loads(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *CNN, *QUIET, "--trainer.max_epochs=1").code == 0
    run = load_run("cnn_mnist")
    old = {
        **run.environment,
        "chosen": {**run.environment["chosen"], "bf16_speed_up": 2.8, "precision_reason": "timed"},
    }
    (run.path / "environment.json").write_text(json.dumps(old))
    tested = litlab("test", "cnn_mnist")
    assert tested.code == 0, tested.err
    assert load_run("cnn_mnist").results[-1]["precision"] == "bf16-mixed"
    resumed = litlab("resume", "cnn_mnist", "--trainer.max_epochs=2", "--extend_schedule=hold")
    assert resumed.code == 0, resumed.err
    assert "precision bf16-mixed (as recorded), channels-last" in resumed.out


def test_fast_dev_run_uses_the_precision_of_the_real_run(litlab: Command) -> None:
    lines = []
    for words in ([], ["--trainer.fast_dev_run=1"]):
        result = litlab("fit", *CNN, *QUIET, *words)
        assert result.code == 0, result.err
        lines += [line for line in result.out.splitlines() if line.startswith("device")]
    assert lines[0] == lines[1]


def test_info_shows_whether_bfloat16_is_fast(litlab: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "  bfloat16      fast (amx_bf16): bf16-mixed for larger networks\n" in litlab("info").out
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: ())
    assert "  bfloat16      not fast here: 32-true\n" in litlab("info").out

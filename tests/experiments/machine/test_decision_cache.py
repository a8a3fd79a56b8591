"""The timing disturbs nothing, and what it decided is kept, or said not to be."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from experiments import load_run
from experiments.machine.bf16_timing import ratio, speed_up
from experiments.machine.decision_cache import decide_once, kept_file, read_kept
from lit_models import LitCNN, LitTokenLSTM
from tests.experiments.commands.test_fit import last_losses
from tests.experiments.conftest import Command

CNN = ["cnn_mnist", "--data.val_split=0.2", "--data.batch_size=16", "--trainer.max_epochs=2", "--data.download=false"]
QUIET = ["--trainer.enable_model_summary=false"]
FACTS = {"processor": "one", "model": "LitCNN"}


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that does not exist yet."""
    monkeypatch.setenv("LITLAB_CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_the_timing_touches_neither_the_model_nor_random_states() -> None:
    model = LitCNN(input_shape=(1, 28, 28), num_classes=10, variant="batchnorm").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), torch.get_num_threads()
    assert model.example_input_array is not None
    assert speed_up(model, model.example_input_array, 4, channels_last=True) > 0
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), torch.get_num_threads()) == states[1:]
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_token_models_can_be_timed() -> None:
    model = LitTokenLSTM(input_shape=(8,), vocab_size=20, hidden=8)
    assert model.example_input_array is not None
    assert speed_up(model, model.example_input_array, 2, channels_last=False) > 0


def test_the_ratio_compares_the_least_of_each() -> None:
    times = {"slow": iter([9.0, 6.0, 4.0] + [5.0] * 20), "fast": iter([9.0, 2.0, 8.0] + [3.0] * 20)}

    def step(name: str) -> object:
        return lambda: name

    assert ratio(step("slow"), step("fast"), lambda run: next(times[str(run())])) == 2.0  # type: ignore[arg-type]


def test_a_decision_is_made_once(own_cache: Path) -> None:
    assert decide_once(FACTS, lambda: {"speed_up": 2.0})["speed_up"] == 2.0
    assert decide_once(FACTS, lambda: {"speed_up": 9.0})["speed_up"] == 2.0
    assert decide_once({**FACTS, "processor": "two"}, lambda: {"speed_up": 9.0})["speed_up"] == 9.0
    assert kept_file() == own_cache / "machine.json"
    assert len(read_kept()) == 2
    assert {path.name for path in own_cache.iterdir()} <= {"machine.json", "machine.lock"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', "\x00\xff"])
def test_a_damaged_file_is_said_and_written_anew(
    text: str, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_cache.mkdir()
    (own_cache / "machine.json").write_text(text, encoding="latin-1")
    assert decide_once(FACTS, lambda: {"speed_up": 2.0})["speed_up"] == 2.0
    assert capsys.readouterr().err.count("is damaged (") == 1
    assert decide_once(FACTS, lambda: {"speed_up": 9.0})["speed_up"] == 2.0
    assert capsys.readouterr().err == ""


def test_a_folder_that_cannot_be_written_is_said_and_the_run_goes_on(
    workshop: Path, litlab: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workshop / "file").write_text("")
    monkeypatch.setenv("LITLAB_CACHE_DIR", str(workshop / "file" / "below"))
    monkeypatch.setattr("experiments.machine.hardware.bf16_flags", lambda: None)
    result = litlab("fit", *CNN, *QUIET, "--trainer.limit_train_batches=2")
    assert result.code == 0, result.err
    assert result.err.count("cannot be kept") == 1
    assert "LITLAB_CACHE_DIR" in result.err


def test_a_run_repeats_and_is_tested_in_the_precision_it_was_trained_in(
    litlab: Command, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITLAB_CACHE_DIR", str(workshop / "kept"))
    monkeypatch.setattr("experiments.machine.hardware.bf16_flags", lambda: ("amx_bf16",))
    monkeypatch.setattr("experiments.machine.choice.CLEARLY", 0.0)  # any machine takes bf16
    fitted = litlab("fit", *CNN, *QUIET, "--test_after_fit=true")
    assert fitted.code == 0, fitted.err
    (device,) = [line for line in fitted.out.splitlines() if line.startswith("device")]
    assert "precision bf16-mixed (" in device
    assert device.endswith("x float32 here), channels-last")
    assert device.startswith("device  CPU, 1 thread, ")

    run = load_run("cnn_mnist")
    assert run.environment["chosen"]["precision"] == "bf16-mixed"
    assert run.environment["chosen"]["channels_last"] is True
    assert run.config["trainer"]["precision"] is None, "as asked, so that another machine decides for itself"
    (workshop / "kept" / "machine.json").unlink()
    tested = litlab("test", "cnn_mnist")
    assert tested.code == 0, tested.err
    after, alone = load_run("cnn_mnist").results[-2:]
    assert after["metrics"] == alone["metrics"]
    assert (after["precision"], alone["precision"]) == ("bf16-mixed", "bf16-mixed")
    assert not (workshop / "kept" / "machine.json").exists(), "scoring decides nothing"
    plain = litlab("test", "cnn_mnist", "--trainer.precision=32-true")
    assert plain.code == 0, plain.err
    assert load_run("cnn_mnist").results[-1]["precision"] == "32-true"

    assert litlab("fit", "--config", str(run.path / "config.yaml")).code == 0
    assert last_losses("runs/cnn_mnist/1") == last_losses("runs/cnn_mnist/0")
    kept = json.loads((workshop / "kept" / "machine.json").read_text())
    assert [entry["model"] for entry in kept.values()] == ["LitCNN"]
    assert "LitCNN" in litlab("info").out


def test_fast_dev_run_trains_in_the_precision_of_the_real_run(litlab: Command) -> None:
    lines = []
    for words in ([], ["--trainer.fast_dev_run=1"]):
        result = litlab("fit", *CNN, *QUIET, *words)
        assert result.code == 0, result.err
        lines += [line for line in result.out.splitlines() if line.startswith("device")]
    assert lines[0] == lines[1]

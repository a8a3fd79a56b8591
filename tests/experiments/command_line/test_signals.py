"""Signals before, during and after training: an exit code, a message, and nothing half-written."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.experiments.conftest import Command

FIT = ("fit", "mlp_digits", "--data.train_fraction=0.2", "--model.hidden=[8]", "--trainer.max_epochs=2",
       "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")  # fmt: skip
SENDER = """
import signal
from pathlib import Path

from lightning.pytorch import Callback


class Sender(Callback):
    def __init__(self, hook: str, name: str):
        def send(*_, **__):
            if not Path("sent").exists():
                Path("sent").touch()
                signal.raise_signal(getattr(signal, name))
        setattr(self, hook, send)
"""


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    """Let no signal be ignored, also if the tests themselves run under nohup."""
    before = {
        number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def sender(folder: Path, hook: str, name: str) -> str:
    (folder / "sending.py").write_text(SENDER)
    return f"--trainer.callbacks+={{class_path: sending.Sender, init_args: {{hook: {hook}, name: {name}}}}}"


@pytest.mark.parametrize(
    ("hook", "name", "code"),
    [
        ("setup", "SIGTERM", 143),
        ("setup", "SIGUSR1", 143),
        ("setup", "SIGHUP", 129),
        ("on_sanity_check_start", "SIGTERM", 143),
    ],
)
def test_a_signal_before_training_leaves_no_run(
    litlab: Command, tmp_path: Path, hook: str, name: str, code: int
) -> None:
    found = litlab(*FIT, sender(tmp_path, hook, name))
    assert (found.code, found.sentence) == (code, f"litlab: stopped by {name}.")
    assert not Path("runs").exists()


@pytest.mark.parametrize(("name", "code"), [("SIGHUP", 129), ("SIGTERM", 143)])
def test_a_signal_during_training_saves_the_step(litlab: Command, tmp_path: Path, name: str, code: int) -> None:
    found = litlab(*FIT, sender(tmp_path, "on_train_batch_start", name))
    assert found.code == code
    assert "Everything is saved." in found.sentence
    assert "resume  litlab resume runs/mlp_digits/0" in found.err


@pytest.mark.parametrize("hook", ["on_train_end", "on_fit_end", "on_test_start", "on_test_batch_end", "on_test_end"])
def test_a_signal_after_the_last_step_can_be_continued(litlab: Command, tmp_path: Path, hook: str) -> None:
    option = sender(tmp_path, hook, "SIGTERM")
    found = litlab(*FIT, "--test_after_fit=true", option)
    assert found.code == 143
    assert found.sentence.startswith("litlab: stopped by SIGTERM")
    assert "resume  litlab resume runs/mlp_digits/0" in found.err
    assert litlab("resume", "runs/mlp_digits/0").code == 0
    verbs = [result["verb"] for result in json.loads(Path("runs/mlp_digits/0/results.json").read_text())]
    assert verbs == ["fit", "test"]


@pytest.mark.parametrize(("command", "hook"), [("test", "on_test_batch_end"), ("validate", "on_validation_batch_end")])
def test_a_signal_during_an_evaluation_stores_nothing(litlab: Command, tmp_path: Path, command: str, hook: str) -> None:
    assert litlab(*FIT).code == 0
    results = Path("runs/mlp_digits/0/results.json").read_bytes()
    found = litlab(command, "runs/mlp_digits/0", sender(tmp_path, hook, "SIGTERM"))
    assert (found.code, found.sentence) == (143, "litlab: stopped by SIGTERM.")
    assert Path("runs/mlp_digits/0/results.json").read_bytes() == results


def test_an_ignored_signal_stays_ignored(litlab: Command, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        assert litlab(*FIT, sender(tmp_path, "on_train_batch_start", "SIGHUP")).code == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

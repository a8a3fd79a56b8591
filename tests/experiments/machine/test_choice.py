"""What is chosen for which machine and model; timings are given, not taken."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule

from datamodules import DigitsDataModule
from experiments.machine import choice as machine
from experiments.machine import hardware as machine_facts
from experiments.machine.choice import Choice, Wishes, choose, rule
from lit_models import LitCNN, LitLogisticRegression, LitLSTM, LitMLP, LitMLPRegressor

IMAGE: dict[str, Any] = {"input_shape": (1, 8, 8), "num_classes": 10}


@pytest.fixture
def xeon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A CPU with AMX, nothing kept, nothing set."""
    monkeypatch.setattr(machine_facts, "bf16_flags", lambda: ("amx_bf16",))
    monkeypatch.setattr(machine_facts, "device_of", lambda _: "cpu")
    monkeypatch.setenv("LITLAB_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("LITLAB_HANDED_MACHINE_CHOICE", "OMP_NUM_THREADS", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    yield
    os.environ.pop("LITLAB_HANDED_MACHINE_CHOICE", None)


def chosen(model: LightningModule, gain: float | None = None, wishes: Wishes | None = None, **options: Any) -> Choice:
    """The choice when bf16 is `gain` times faster; None: timing it is an error."""

    def probe(*_: object) -> float:
        assert gain is not None, "timed"
        return gain

    return choose(model, DigitsDataModule(batch_size=64), options, wishes or Wishes(), probe)


@pytest.mark.parametrize(
    ("facts", "ruling"),
    [
        (("cpu", ("amx_bf16",), "conv", False, False), "time it"),
        (("cpu", ("avx512_bf16",), "recurrent", False, False), "time it"),
        (("cpu", None, "conv", False, False), "time it"),
        (("cpu", (), "conv", False, False), "float32"),
        (("cpu", ("amx_bf16",), "dense", False, True), "float32"),
        (("cpu", ("amx_bf16",), "conv", True, False), "float32"),
        (("cpu", ("amx_bf16",), None, False, False), "float32"),
        (("cuda", ("bf16",), "conv", False, False), "bf16"),
        (("cuda", ("bf16",), "dense", True, False), "float32"),
        (("cuda", (), "conv", False, False), "float32"),
        (("mps", (), "conv", False, False), "float32"),
        (("other", (), "conv", False, False), "float32"),
    ],
)
def test_the_rule(facts: tuple[Any, ...], ruling: str) -> None:
    assert rule(*facts)[0] == ruling


@pytest.mark.usefixtures("xeon")
def test_what_is_clearly_faster_is_taken_and_what_is_not_is_left() -> None:
    fast = chosen(LitCNN(**IMAGE), 2.0)
    assert (fast.precision, fast.channels_last, fast.speed_up) == ("bf16-mixed", True, 2.0)
    slow = chosen(LitCNN(**IMAGE, widths=(8, 8)), 1.05)
    assert (slow.precision, slow.channels_last) == ("32-true", False)
    lstm = chosen(LitLSTM(**IMAGE), 2.0)
    assert (lstm.precision, lstm.channels_last) == ("bf16-mixed", False)
    assert fast.words("bf16-mixed").endswith("precision bf16-mixed (2.0 x float32 here), channels-last")


@pytest.mark.usefixtures("xeon")
def test_a_decision_never_flips() -> None:
    assert chosen(LitCNN(**IMAGE), 2.0) == chosen(LitCNN(**IMAGE), 1.0)
    assert chosen(LitCNN(**IMAGE, optimizer="sgd", metrics=("acc", "f1"))).precision == "bf16-mixed", "the same network"
    assert chosen(LitCNN(**IMAGE, widths=(4, 4)), 1.0).precision == "32-true", "another network"


@pytest.mark.usefixtures("xeon")
@pytest.mark.parametrize(
    "model",
    [
        LitLogisticRegression(**IMAGE),
        LitMLP(**IMAGE, hidden=(128, 64)),
        LitMLPRegressor(input_shape=(1, 28, 28), num_targets=1, hidden=(2048, 2048)),
        LitCNN(**IMAGE, optimizer="lbfgs"),
        LitCNN(**IMAGE, optimizer=torch.optim.LBFGS),
        LightningModule(),
    ],
    ids=["softmax", "MLP", "regression", "lbfgs", "LBFGS class", "foreign"],
)
def test_tiny_exact_and_foreign_models_stay_float32_untimed(model: LightningModule) -> None:
    assert chosen(model).precision == "32-true"


@pytest.mark.usefixtures("xeon")
def test_an_explicit_precision_wins_untimed() -> None:
    for precision in ("32-true", "bf16-mixed", 64):
        assert chosen(LitCNN(**IMAGE), precision=precision).precision is None
    assert chosen(LitCNN(**IMAGE), precision="bf16-mixed").channels_last
    assert not chosen(LitCNN(**IMAGE), precision="32-true").channels_last
    assert chosen(LitCNN(**IMAGE), wishes=Wishes(channels_last=True), precision="32-true").channels_last
    assert not chosen(LitCNN(**IMAGE), 2.0, Wishes(channels_last=False)).channels_last


@pytest.mark.usefixtures("xeon")
def test_a_model_that_cannot_be_timed_stays_float32() -> None:
    def broken(*_: object) -> float:
        raise RuntimeError("only inside a Trainer")

    choice = choose(LitCNN(**IMAGE), DigitsDataModule(), {}, Wishes(), broken)
    assert choice.precision == "32-true"
    assert "RuntimeError" in choice.reason


@pytest.mark.usefixtures("xeon")
def test_other_processes_take_what_the_first_one_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    first = chosen(LitCNN(**IMAGE), 2.0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LITLAB_CACHE_DIR", "/nowhere")
    assert chosen(LitCNN(**IMAGE), precision=None) == first


@pytest.mark.usefixtures("xeon")
def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(machine_facts, "physical_cores", lambda: 8)
    large, tiny = LitCNN(**IMAGE), LitLogisticRegression(**IMAGE)
    assert chosen(large, 1.0).threads == 8
    assert chosen(large, 1.0, devices=2).threads == 4
    assert chosen(tiny).threads == 1
    assert chosen(tiny, wishes=Wishes(threads=3)).threads == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    assert chosen(large, 1.0).threads == chosen(tiny).threads == 16


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with machine.settings(Choice(None, False, before + 1)):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_no_step_looks_for_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    for found, within in ((False, ""), (True, None)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=found: found)
        with machine.settings(Choice(None, False, 1)):
            assert os.environ.get("CUDA_VISIBLE_DEVICES") == within
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with machine.settings(Choice(None, False, 1)):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_what_a_run_recorded_is_what_its_weights_are_scored_in(tmp_path: Path) -> None:
    record = tmp_path / "environment.json"
    record.write_text(json.dumps({"chosen": {"precision": "bf16-mixed", "channels_last": True, "threads": 1}}))
    choice = machine.of_run(record, {}, Wishes())
    assert (choice.precision, choice.channels_last, choice.threads) == ("bf16-mixed", True, 1)
    assert machine.of_run(record, {"precision": "32-true"}, Wishes()).precision is None
    for text in ("", "{}", "[]", '{"chosen": []}', '{"chosen": {"precision": "13-odd"}}'):
        record.write_text(text)
        assert machine.of_run(record, {}, Wishes()).precision == "32-true"
    assert machine.of_run(None, {}, Wishes()).precision == "32-true"


@pytest.mark.parametrize(
    ("options", "number"),
    [({}, 1), ({"devices": 2}, 2), ({"devices": "3"}, 3), ({"devices": [0, 1]}, 2), ({"devices": "auto"}, 1)],
)
def test_processes_on_this_machine(options: dict[str, Any], number: int) -> None:
    assert machine_facts.processes({"accelerator": "cpu", **options}) == number

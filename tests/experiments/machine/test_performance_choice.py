"""Precision, memory layout and threads chosen for machines and models."""

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
from experiments.machine import hardware, performance_choice
from experiments.machine.performance_choice import PerformanceChoice, bf16_gains, choose
from experiments.machine.performance_options import PerformanceOptions
from experiments.runs.environment import read_chosen
from experiments.runs.folder import RunFolder
from lit_models import LitCNN, LitLogisticRegression, LitLSTM, LitMLP, LitMLPRegressor, LitTokenLSTM

DIGITS: dict[str, Any] = {"input_shape": (1, 8, 8), "num_classes": 10}
IMAGE: dict[str, Any] = {"input_shape": (1, 28, 28), "num_classes": 10}
AMX = ("amx_bf16",)
LARGE = 200_000_000


def cpuinfo(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    """Let each processor have these flags."""
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: ({"processor": "0", "flags": " ".join(("fpu", *flags))},))


@pytest.fixture
def xeon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A CPU with AMX, without environment variables that decide."""
    cpuinfo(monkeypatch, *AMX)
    monkeypatch.setattr(hardware, "device_of", lambda _: "cpu")
    for name in ("LITLAB_HANDED_MACHINE_CHOICE", "OMP_NUM_THREADS", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    yield
    os.environ.pop("LITLAB_HANDED_MACHINE_CHOICE", None)


def chosen(model: LightningModule, performance: PerformanceOptions | None = None, **options: Any) -> PerformanceChoice:
    """Return the choice for batches of 64 samples."""
    return choose(model, DigitsDataModule(batch_size=64), options, performance or PerformanceOptions())


@pytest.mark.parametrize(
    ("kind", "full_precision", "multiplications", "fast", "gains"),
    [
        ("conv", False, LARGE, AMX, True),
        ("recurrent", False, LARGE, ("avx512_bf16",), True),
        ("dense", False, LARGE, AMX, True),
        ("conv", False, LARGE, (), False),
        ("dense", False, 60_000_000, AMX, False),
        ("recurrent", False, 89_000_000, ("avx512_bf16",), False),
        ("conv", True, LARGE, AMX, False),
        (None, False, LARGE, AMX, False),
        ("conv", False, LARGE, ("compute capability 9.0",), True),
        ("dense", True, LARGE, ("compute capability 9.0",), False),
    ],
)
def test_rule(kind: str | None, full_precision: bool, multiplications: int, fast: tuple[str, ...], gains: bool) -> None:
    assert bf16_gains(kind, full_precision, multiplications, fast)[0] is gains


def test_devices_that_are_fast_at_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo(monkeypatch, "avx512_bf16", "amx_bf16")
    assert hardware.fast_bfloat16("cpu") == ("amx_bf16", "avx512_bf16")
    assert hardware.fast_bfloat16("mps") == hardware.fast_bfloat16("other") == ()
    cpuinfo(monkeypatch, "avx2")
    assert hardware.fast_bfloat16("cpu") == ()
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: ())  # a system that does not report flags
    assert hardware.fast_bfloat16("cpu") == ()
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # also true if emulated
    for capability, fast in (((7, 5), ()), ((8, 0), ("compute capability 8.0",))):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda capability=capability: capability)
        assert hardware.fast_bfloat16("cuda") == fast


def test_multiplications_count_pixels_and_time_steps() -> None:
    data = DigitsDataModule()

    def weights(model: LightningModule) -> int:
        return sum(parameter.numel() for parameter in model.parameters())

    dense, recurrent, tokens = LitMLP(**DIGITS), LitLSTM(**IMAGE), LitTokenLSTM(input_shape=(7,), vocab_size=9)
    assert hardware.multiplications(dense, data, 5) == 5 * weights(dense)
    assert hardware.multiplications(recurrent, data, 5) == 5 * 28 * weights(recurrent)
    assert hardware.multiplications(tokens, data, 5) == 5 * 7 * weights(tokens)
    conv = LitCNN(**DIGITS, widths=(4, 8))
    kernels = 9 * (1 * 4 + 4 * 8)
    assert hardware.multiplications(conv, data, 5) == 5 * (64 * kernels + weights(conv) - kernels)


@pytest.mark.usefixtures("xeon")
def test_larger_networks_use_bf16_and_small_ones_float32() -> None:
    fast = chosen(LitCNN(**IMAGE))
    assert (fast.precision, fast.channels_last) == ("bf16-mixed", True)
    small = chosen(LitCNN(**DIGITS, widths=(8, 8)))
    assert (small.precision, small.channels_last) == ("32-true", False)
    lstm = chosen(LitLSTM(**IMAGE, hidden=128))
    assert (lstm.precision, lstm.channels_last) == ("bf16-mixed", False)
    assert chosen(LitMLP(**IMAGE, hidden=(2048, 2048))).precision == "bf16-mixed"
    assert fast.text("bf16-mixed").endswith(", precision bf16-mixed (fast bfloat16: amx_bf16), channels-last")
    assert small.text("32-true").endswith(", precision 32-true (small network)")


@pytest.mark.usefixtures("xeon")
def test_a_processor_without_fast_bfloat16_uses_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo(monkeypatch, "avx512f")
    choice = chosen(LitCNN(**IMAGE))
    assert (choice.precision, choice.channels_last, choice.reason) == ("32-true", False, "no fast bfloat16")


@pytest.mark.usefixtures("xeon")
@pytest.mark.parametrize(
    "model",
    [
        LitLogisticRegression(**DIGITS),
        LitMLP(**IMAGE, hidden=(128, 64)),
        LitMLPRegressor(input_shape=(1, 28, 28), num_targets=1, hidden=(2048, 2048)),
        LitCNN(**IMAGE, optimizer="lbfgs"),
        LitCNN(**IMAGE, optimizer=torch.optim.LBFGS),
        LightningModule(),
    ],
    ids=["softmax", "MLP", "regression", "lbfgs", "LBFGS class", "foreign"],
)
def test_tiny_exact_and_foreign_models_use_float32(model: LightningModule) -> None:
    assert chosen(model).precision == "32-true"


@pytest.mark.usefixtures("xeon")
def test_an_explicit_precision_wins() -> None:
    for precision in ("32-true", "bf16-mixed", 64):
        assert chosen(LitCNN(**IMAGE), precision=precision).precision is None
    assert chosen(LitCNN(**IMAGE), precision="bf16-mixed").channels_last
    assert not chosen(LitCNN(**IMAGE), precision="32-true").channels_last
    assert chosen(LitCNN(**IMAGE), PerformanceOptions(channels_last=True), precision="32-true").channels_last
    assert not chosen(LitCNN(**IMAGE), PerformanceOptions(channels_last=False)).channels_last
    assert chosen(LitCNN(**IMAGE), precision="bf16-mixed").text("bf16-mixed").endswith("bf16-mixed, channels-last")


@pytest.mark.usefixtures("xeon")
def test_other_processes_use_the_choice_of_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    first = chosen(LitCNN(**IMAGE))
    monkeypatch.setenv("LOCAL_RANK", "1")
    cpuinfo(monkeypatch)
    assert chosen(LitCNN(**IMAGE), precision=None) == first


@pytest.mark.usefixtures("xeon")
def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(hardware, "physical_cores", lambda: 8)
    large, tiny = LitCNN(**DIGITS), LitLogisticRegression(**DIGITS)
    assert chosen(large).threads == 8
    assert chosen(large, devices=2).threads == 4
    assert chosen(tiny).threads == 1
    assert chosen(tiny, PerformanceOptions(threads=3)).threads == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    assert chosen(large).threads == chosen(tiny).threads == 16


def test_thread_settings_restores_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    with performance_choice.thread_settings(PerformanceChoice(None, False, before + 1)):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_no_step_searches_for_a_missing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    for found, within in ((False, ""), (True, None)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=found: found)
        with performance_choice.thread_settings(PerformanceChoice(None, False, 1)):
            assert os.environ.get("CUDA_VISIBLE_DEVICES") == within
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with performance_choice.thread_settings(PerformanceChoice(None, False, 1)):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_a_run_is_scored_with_its_recorded_choice(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)

    def scored(**options: Any) -> PerformanceChoice:
        return performance_choice.from_record(read_chosen(folder), options, PerformanceOptions())

    assert scored().precision == "32-true", "no environment.json"
    record = {"precision": "bf16-mixed", "bf16_speed_up": 2.8, "channels_last": True, "threads": 1}
    folder.environment.write_text(json.dumps({"chosen": record}))  # with a key of former versions
    choice = scored()
    assert (choice.precision, choice.channels_last, choice.threads) == ("bf16-mixed", True, 1)
    assert scored(precision="32-true").precision is None
    for text in ("", "{}", "[]", '{"chosen": []}', '{"chosen": {"precision": "13-odd"}}'):
        folder.environment.write_text(text)
        assert scored().precision == "32-true"
    assert performance_choice.from_record({}, {}, PerformanceOptions()).precision == "32-true"


@pytest.mark.parametrize(
    ("options", "number"),
    [({}, 1), ({"devices": 2}, 2), ({"devices": "3"}, 3), ({"devices": [0, 1]}, 2), ({"devices": "auto"}, 1)],
)
def test_processes_on_this_node(options: dict[str, Any], number: int) -> None:
    assert hardware.processes({"accelerator": "cpu", **options}) == number

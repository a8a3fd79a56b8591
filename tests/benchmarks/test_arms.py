"""The arms of the benchmark train the same task, and only the litlab arm imports litlab."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.arms import bare, data, work
from benchmarks.arms.graphs import GraphTraining
from benchmarks.arms.raw import Batches, Machine, RawTraining
from benchmarks.arms.turns import Turns

ROOT = Path(__file__).parents[2]
PACKAGES = {"experiments", "lit_models", "datamodules", "callbacks"}
WORKS = {name: value for name, value in vars(work).items() if isinstance(value, work.Work)}


@pytest.fixture(autouse=True)
def synthetic_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data.write_idx(tmp_path, 100, 20)
    monkeypatch.setenv("LITLAB_DATA_DIR", str(tmp_path))


@pytest.mark.parametrize("arm", ["nets", "data", "work", "raw", "graphs", "bare", "naive"])
def test_other_arms_import_nothing_from_litlab(arm: str) -> None:
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / "benchmarks" / "arms" / f"{arm}.py").read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert not {name.split(".")[0] for name in names} & PACKAGES
    assert not any(name.startswith(("benchmarks.arms.litlab", "benchmarks.arms.loader")) for name in names)


@pytest.mark.parametrize("channels_last", [False, True])
def test_raw_batches_contain_every_image_once_normalized(channels_last: bool) -> None:
    pixels = data.read("MadeUp32", 50)
    batches = Batches(pixels, torch.arange(50), 16, Machine(channels_last=channels_last))
    served = [(x, y) for x, y in batches]
    assert [len(y) for _, y in served] == [16, 16, 16, 2]
    expected = (pixels.images / 255 - torch.tensor(pixels.mean).view(-1, 1, 1)) / torch.tensor(pixels.std).view(
        -1, 1, 1
    )
    found = torch.cat([x for x, _ in served])
    assert torch.allclose(found.flatten(1).sum(1).sort().values, expected.flatten(1).sum(1).sort().values, atol=1e-2)
    if channels_last:
        assert served[0][0].is_contiguous(memory_format=torch.channels_last)


def test_raw_loop_learns_and_knows_its_number_of_steps() -> None:
    training = RawTraining(work.SOFTMAX.quick(), 80, 6, Machine())
    for _ in range(6):
        training.epoch()
    assert len(training.batches) == 3
    assert training.accuracy() > 0.8


def test_graph_arm_without_cuda_is_the_raw_loop() -> None:
    states = []
    for cls in (RawTraining, GraphTraining):
        torch.manual_seed(0)
        training = cls(work.MLP.quick(), 80, 2, Machine())
        training.epoch()
        states.append(training.net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))


def test_raw_order_changes_each_epoch_independently_of_the_global_generator() -> None:
    training = RawTraining(work.SOFTMAX.quick(), 80, 2, Machine())
    orders = []
    for _ in range(2):
        torch.manual_seed(0)
        orders.append(training.batches.order().tolist())
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


@pytest.mark.parametrize(("in_call", "expected"), [(1, [20, 20, 3]), (16, [16, 16, 11]), (50, [43])])
def test_both_loops_alternate_every_twenty_steps(in_call: int, expected: list[int]) -> None:
    """The raw loop and a Trainer run 43 steps each; the Trainer runs `in_call` steps per call."""
    training = RawTraining(work.SOFTMAX.quick(), 43 * 32, 1, Machine())
    training.batches.batch_size = 32
    training.batches.rows = torch.arange(80).repeat(18)[: 43 * 32]
    taken: list[int] = []

    def steps(number: int) -> float:
        before = len(taken_rows)
        for _ in range(number):
            if next(training._left, None) is None:
                break
            taken_rows.append(1)
        taken.append(len(taken_rows) - before)
        return 1.0

    taken_rows: list[int] = []
    training.steps = steps  # type: ignore[method-assign]
    turns = Turns(training, in_call)
    turns.start_epoch()
    for index in range(-(-43 // in_call)):
        turns.after_call(index)
    turns.end_loop()
    assert [number for number in taken if number] == expected


def test_a_bare_trainer_hides_gpus_and_restores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seen = []

    class RecordVariable(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))

    job = work.SOFTMAX.quick()
    bare.fit(job, RawTraining(job, 80, 1, Machine()), 1, [RecordVariable()])
    assert seen == [""]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize("name", WORKS)
def test_every_named_config_is_shipped(name: str) -> None:
    assert (ROOT / "configs" / f"{WORKS[name].config}.yaml").is_file()

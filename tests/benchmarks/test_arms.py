"""What the benchmark compares: the arms train the same thing, and those beside litlab are free of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from benchmarks.arms import data, work
from benchmarks.arms.graphs import GraphTraining
from benchmarks.arms.raw import Batches, Machine, RawTraining

ROOT = Path(__file__).parents[2]
ROOMS = {"experiments", "lit_models", "datamodules", "callbacks"}
WORKS = {name: value for name, value in vars(work).items() if isinstance(value, work.Work)}


@pytest.fixture(autouse=True)
def made_up_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data.write_idx(tmp_path, 100, 20)
    monkeypatch.setenv("LITLAB_DATA_DIR", str(tmp_path))


@pytest.mark.parametrize("arm", ["nets", "data", "work", "raw", "graphs", "bare", "naive"])
def test_arms_beside_litlab_import_nothing_of_it(arm: str) -> None:
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / "benchmarks" / "arms" / f"{arm}.py").read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert not {name.split(".")[0] for name in names} & ROOMS
    assert not any(name.startswith(("benchmarks.arms.litlab", "benchmarks.arms.loader")) for name in names)


@pytest.mark.parametrize("channels_last", [False, True])
def test_raw_batches_hold_every_image_once_normalised(channels_last: bool) -> None:
    pixels = data.read("MadeUp32", 50)
    batches = Batches(pixels, torch.arange(50), 16, Machine(channels_last=channels_last))
    served = [(x, y) for x, y in batches]
    assert [len(y) for _, y in served] == [16, 16, 16, 2]
    wanted = (pixels.images / 255 - torch.tensor(pixels.mean).view(-1, 1, 1)) / torch.tensor(pixels.std).view(-1, 1, 1)
    found = torch.cat([x for x, _ in served])
    assert torch.allclose(found.flatten(1).sum(1).sort().values, wanted.flatten(1).sum(1).sort().values, atol=1e-2)
    if channels_last:
        assert served[0][0].is_contiguous(memory_format=torch.channels_last)


def test_raw_loop_learns_and_counts_its_steps() -> None:
    training = RawTraining(work.SOFTMAX.quick(), 80, 6, Machine())
    for _ in range(6):
        training.epoch()
    assert len(training.batches) == 3
    assert training.accuracy() > 0.8


def test_graph_arm_without_cuda_is_the_raw_loop() -> None:
    kept = []
    for kind in (RawTraining, GraphTraining):
        torch.manual_seed(0)
        training = kind(work.MLP.quick(), 80, 2, Machine())
        training.epoch()
        kept.append(training.net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(kept[0].values(), kept[1].values(), strict=True))


@pytest.mark.parametrize("name", WORKS)
def test_every_config_named_is_shipped(name: str) -> None:
    assert (ROOT / "configs" / f"{WORKS[name].config}.yaml").is_file()

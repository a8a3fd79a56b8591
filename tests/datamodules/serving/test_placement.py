"""Where data is held, for machines of any size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import LineDataModule
from datamodules.serving import placement
from datamodules.serving.placement import Placement, Room, describe, free_memory, place

CPU = Room("cpu", device=100, main=100)
GPU = Room("cuda", device=100, main=1000)


@pytest.mark.parametrize(
    ("room", "needed", "extra", "holding", "copies"),
    [
        (CPU, 50, 0, "device", True),
        (CPU, 10, 40, "device", True),
        (CPU, 10, 41, "device", False),
        (CPU, 51, 0, "workers", True),
        (CPU, 51, 10, "workers", False),
        (GPU, 50, 0, "device", True),
        (GPU, 20, 31, "device", False),
        (GPU, 51, 0, "memory", True),
        (GPU, 500, 1, "memory", False),
        (GPU, 501, 0, "workers", True),
    ],
)
def test_data_takes_the_first_place_with_room(room: Room, needed: int, extra: int, holding: Any, copies: bool) -> None:
    assert place("auto", needed, extra, room) == Placement(holding, copies)


@pytest.mark.parametrize(("processes", "holding"), [(1, "device"), (2, "device"), (3, "workers")])
def test_processes_on_one_machine_share_its_memory(monkeypatch: Any, processes: int, holding: str) -> None:
    store = torch.zeros(100, dtype=torch.uint8), torch.zeros(0)
    monkeypatch.setattr(placement, "free_memory", lambda _: 250)
    cpu = torch.device("cpu")
    found = placement.choose("auto", store, 0, cpu, mapped=False, part="test", workers=2, processes=processes)
    assert found.holding == holding


@pytest.mark.parametrize("room", [CPU, GPU])
@pytest.mark.parametrize("asked", ["device", "memory", "workers"])
def test_what_is_asked_for_is_done_whatever_fits(room: Room, asked: Any) -> None:
    placement = place(asked, 10**6, 0, room)
    assert placement.forced
    assert not placement.plain
    # a CPU's memory is the main memory
    assert placement.holding == ("device" if asked == "memory" and room is CPU else asked)


def test_the_line_names_size_place_and_reason() -> None:
    gpu = torch.device("cuda", 0)

    def line(placement: Placement, device: torch.device = gpu) -> str:
        return describe(placement, "training", 3 * 10**9, 2 * 10**9, device, 4)

    end = ": more than 50% of the free memory otherwise."
    start = "data: the 3.0 GB of training data"
    assert line(Placement("memory", False)) == f"{start} stay in main memory, each batch moves to cuda:0{end}"
    assert line(Placement("workers", False)) == f"{start} are read by 4 worker processes{end}"
    assert line(Placement("device", False)) == (
        f"{start} are held in the memory of cuda:0, without the 2.0 GB of copies that make augmentation faster{end}"
    )
    forced = line(Placement("device", True, forced=True), torch.device("cpu"))
    assert forced == f"{start} are held in main memory, as holding asks."


def test_this_machine_says_how_much_is_free() -> None:
    assert free_memory(torch.device("cpu")) > 2**20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"holding": "disk"}, "holding: 'disk' is not known. Give auto, device, memory or workers."),
        ({"num_workers": -1}, "num_workers: -1 is not possible"),
        ({"holding": "device", "num_workers": 2}, "num_workers: 2 with holding: device, which uses none"),
    ],
)
def test_senseless_arguments_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(MisconfigurationException, match=words):
        LineDataModule(**options)

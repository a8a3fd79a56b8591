"""Data storage, for machines of any size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import LineDataModule
from datamodules.serving import storage
from datamodules.serving.storage import Storage, decide_storage, describe_storage, free_memory

CPU = {"free": 100, "free_main": None}
GPU = {"free": 100, "free_main": 1000}


@pytest.mark.parametrize(
    ("free", "needed", "extra", "kind", "copies"),
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
def test_auto_takes_the_first_storage_with_enough_free_memory(
    free: Any, needed: int, extra: int, kind: Any, copies: bool
) -> None:
    assert decide_storage("auto", needed, extra, **free) == Storage(kind, copies)


@pytest.mark.parametrize(("processes", "kind"), [(1, "device"), (2, "device"), (3, "workers")])
def test_processes_on_one_machine_share_its_main_memory(monkeypatch: Any, processes: int, kind: str) -> None:
    tensors = torch.zeros(100, dtype=torch.uint8), torch.zeros(0)
    monkeypatch.setattr(storage, "free_memory", lambda _: 250)
    cpu = torch.device("cpu")
    found = storage.choose_storage("auto", tensors, 0, cpu, mapped=False, split="test", workers=2, processes=processes)
    assert found.kind == kind


@pytest.mark.parametrize("free", [CPU, GPU])
@pytest.mark.parametrize("option", ["device", "memory", "workers"])
def test_an_explicit_storage_is_used_even_if_it_does_not_fit(free: Any, option: Any) -> None:
    found = decide_storage(option, 10**6, 0, **free)
    assert found.forced
    # the memory of a CPU is the main memory
    assert found.kind == ("device" if option == "memory" and free is CPU else option)


def test_the_log_line_names_size_storage_and_reason() -> None:
    gpu = torch.device("cuda", 0)

    def line(storage: Storage, device: torch.device = gpu) -> str:
        return describe_storage(storage, "training", 3 * 10**9, 2 * 10**9, device, 4)

    data = "3.0 GB of training data"
    end = ", because more than 50% of the free memory would be needed otherwise."
    assert line(Storage("memory", False)) == f"data: storing {data} in main memory and moving each batch to cuda:0{end}"
    assert line(Storage("workers", False)) == f"data: reading {data} with 4 worker processes{end}"
    assert line(Storage("device", False)) == (
        f"data: storing {data} in the memory of cuda:0, without the 2.0 GB copy that makes augmentation faster{end}"
    )
    forced = line(Storage("device", True, forced=True), torch.device("cpu"))
    assert forced == f"data: storing {data} in main memory, as set by data.holding."


def test_free_memory_of_this_machine_is_reported() -> None:
    assert free_memory(torch.device("cpu")) > 2**20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"holding": "disk"}, "holding must be auto, device, memory or workers, got 'disk'"),
        ({"num_workers": -1}, "num_workers must be an integer of at least 0, got -1"),
        ({"holding": "device", "num_workers": 2}, "num_workers: 2 has no effect with holding: device"),
    ],
)
def test_invalid_arguments_raise_an_error(options: dict[str, Any], words: str) -> None:
    with pytest.raises(MisconfigurationException, match=words):
        LineDataModule(**options)

"""Choice of the data storage by the size of the data and the free memory."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.checks import check_choice, check_integer

StorageOption = Literal["auto", "device", "memory", "workers"]

MAX_SHARE = 0.5  # of the free memory
_MOST_WORKERS = 1024  # worker processes


@dataclass(frozen=True)
class Storage:
    """Data on the training `device`, in main `memory` (each batch is moved), or read by `workers` (processes)."""

    kind: Literal["device", "memory", "workers"]
    copies: bool  # True if the augmentation may store a preprocessed copy of the data
    forced: bool = False  # True if the user set `holding`


def decide_storage(option: StorageOption, needed: int, extra: int, free: int, free_main: int | None) -> Storage:
    """Return the storage for `needed` bytes, and whether `extra` bytes of copies fit too.

    With `auto`, this is the first that needs at most `MAX_SHARE` of the free memory: device, memory, else workers,
    which can share a memory-mapped file. `free` is the free memory of the device, and `free_main` the free main memory
    (None if the device is a CPU).
    """
    copies = needed + extra <= MAX_SHARE * free or not extra
    kind = option
    if option == "auto":
        fits_main = free_main is not None and needed <= MAX_SHARE * free_main
        kind = "device" if needed <= MAX_SHARE * free else "memory" if fits_main else "workers"
    elif option == "memory" and free_main is None:
        kind = "device"
    assert kind != "auto"
    # Batches that are moved or made by workers do not use copies.
    return Storage(kind, copies if kind == "device" else not extra, forced=option != "auto")


def describe_storage(storage: Storage, split: str, needed: int, extra: int, device: torch.device, workers: int) -> str:
    """Return the log line about the storage."""
    data = f"{_size(needed)} of {split} data"
    if storage.kind == "device":
        line = f"storing {data} in {'main memory' if device.type == 'cpu' else f'the memory of {device}'}"
        if not storage.copies:
            line += f", without the {_size(extra)} copy that makes augmentation faster"
    elif storage.kind == "memory":
        line = f"storing {data} in main memory and moving each batch to {device}"
    else:
        line = f"reading {data} with {workers} worker process{'' if workers == 1 else 'es'}"
    if storage.forced:
        return f"data: {line}, as set by data.holding."
    return f"data: {line}, because more than {MAX_SHARE:.0%} of the free memory would be needed otherwise."


def choose_storage(
    option: StorageOption,
    tensors: tuple[Tensor, Tensor],
    extra: int,
    device: torch.device,
    *,
    mapped: bool,
    split: str,
    workers: int,
    processes: int = 1,
) -> Storage:
    """Return the storage for the free memory of this machine; log it unless it is the device with copies.

    Args:
        option: the argument `holding`.
        tensors: inputs and targets.
        extra: bytes of the copies that the preparation can use.
        device: the training device.
        mapped: True if the inputs are a memory-mapped file, whose memory the system can free.
        split: name of the split, for the log.
        workers: number of worker processes, for the log.
        processes: training processes on this machine; each stores the data in the shared main memory.
    """
    needed = sum(tensor.nbytes for tensor in tensors)
    main = torch.device("cpu")
    free = {
        place: free_memory(place) // (processes if place == main else 1)
        # The memory that the data already uses counts as free.
        + (needed if tensors[0].device == place and not mapped else 0)
        for place in (device, main)
    }
    storage = decide_storage(option, needed, extra, free[device], None if device.type == "cpu" else free[main])
    if storage != Storage("device", copies=True):
        rank_zero_info(describe_storage(storage, split, needed, extra, device, workers))
    return storage


def check_storage_arguments(holding: str, num_workers: int | None) -> None:
    """Raise an error if the storage is unknown or does not use the workers."""
    check_choice("holding", holding, get_args(StorageOption))
    if num_workers is None:
        return
    check_integer("num_workers", num_workers, 0)
    if num_workers > _MOST_WORKERS:
        raise MisconfigurationException(f"num_workers must be at most {_MOST_WORKERS}, got {num_workers}. Set fewer.")
    if holding in ("device", "memory"):
        raise MisconfigurationException(
            f"num_workers: {num_workers} has no effect with holding: {holding}. Remove it, or set "
            "--data.holding workers."
        )


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a GPU or of main memory, or all main memory if the system does not report them."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return sys.maxsize


def _size(count: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1e3:.1f} kB"

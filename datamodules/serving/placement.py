"""Where a part of the data is held: decided by its size and the free memory."""

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

Holding = Literal["auto", "device", "memory", "workers"]

SHARE = 0.5  # of the free memory that data may take


@dataclass(frozen=True)
class Placement:
    """`device`: held where the model trains; `memory`: in main memory, batches move; `workers`: worker processes."""

    holding: Literal["device", "memory", "workers"]
    copies: bool  # whether the augmentation may keep prepared copies of the data
    forced: bool = False

    @property
    def plain(self) -> bool:
        """Whether there is nothing to tell."""
        return self.holding == "device" and self.copies and not self.forced


@dataclass(frozen=True)
class Room:
    """Free bytes as they would be without the data, and the kind of device: cpu, cuda ..."""

    kind: str
    device: int
    main: int


def place(asked: Holding, needed: int, extra: int, room: Room) -> Placement:
    """Where `needed` bytes go, with `extra` more for copies if these fit too; nothing takes over half of what is free.

    On the device if it fits there, first with, then without copies; else in main memory; else by worker processes,
    which read a mapped file side by side. On a CPU the device's memory is the main memory.
    """
    copies = needed + extra <= SHARE * room.device or not extra
    holding = asked
    if asked == "auto":
        if needed <= SHARE * room.device:
            holding = "device"
        elif room.kind != "cpu" and needed <= SHARE * room.main:
            holding = "memory"
        else:
            holding = "workers"
    if holding == "memory" and room.kind == "cpu":
        return Placement("device", copies, forced=True)
    if holding == "device":
        return Placement("device", copies, forced=asked != "auto")
    assert holding != "auto"
    # Batches that move, or are made elsewhere, leave copies of the whole without use.
    return Placement(holding, not extra, forced=asked != "auto")


def describe(placement: Placement, part: str, needed: int, extra: int, device: torch.device, workers: int) -> str:
    """The choice in one line."""
    size = f"data: the {_size(needed)} of {part} data"
    if placement.holding == "device":
        line = f"{size} are held in {'main memory' if device.type == 'cpu' else f'the memory of {device}'}"
        if not placement.copies:
            line += f", without the {_size(extra)} of copies that make augmentation faster"
    elif placement.holding == "memory":
        line = f"{size} stay in main memory, each batch moves to {device}"
    else:
        line = f"{size} are read by {workers} worker process{'' if workers == 1 else 'es'}"
    if placement.forced:
        return f"{line}, as holding asks."
    return f"{line}: more than {SHARE:.0%} of the free memory otherwise."


def choose(
    asked: Holding,
    store: tuple[Tensor, Tensor],
    extra: int,
    device: torch.device,
    *,
    mapped: bool,
    part: str,
    workers: int,
    processes: int = 1,
) -> Placement:
    """`place` with the memory of this machine; says in one line what is not the plain choice.

    Args:
        asked: what the user gave.
        store: inputs and targets.
        extra: bytes of the copies that the preparation would keep.
        device: where the model trains.
        mapped: the store is a file, so it takes no memory that it would not give back.
        part: the data in words.
        workers: worker processes, for the line.
        processes: that train on this machine and share its main memory; each holds the data.
    """
    needed = sum(tensor.nbytes for tensor in store)
    main = torch.device("cpu")
    # What the data itself has taken already does not count against it.
    free = {
        place: free_memory(place) // (processes if place == main else 1)
        + (needed if store[0].device == place and not mapped else 0)
        for place in (device, main)
    }
    placement = place(asked, needed, extra, Room(device.type, free[device], free[main]))
    if not placement.plain:
        rank_zero_info(describe(placement, part, needed, extra, device, workers))
    return placement


def check_holding(holding: str, num_workers: int | None) -> None:
    """Refuse unknown words and workers that would not be used."""
    if holding not in get_args(Holding):
        raise MisconfigurationException(f"holding: {holding!r} is not known. Give auto, device, memory or workers.")
    if num_workers is not None and (isinstance(num_workers, bool) or num_workers < 0):
        raise MisconfigurationException(f"num_workers: {num_workers!r} is not possible. Give a whole number.")
    if num_workers is not None and holding in ("device", "memory"):
        raise MisconfigurationException(
            f"num_workers: {num_workers} with holding: {holding}, which uses none. Leave it out, or give "
            "holding: workers."
        )


def free_memory(device: torch.device) -> int:
    """Free bytes on a GPU, else of main memory; where nothing tells, all of the machine's."""
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

"""Measured values, targets, and the file that stores them."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock

from benchmarks.arms.raw import CLOCK
from experiments.runs import environment

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    pairs: int = 5
    threads: int = 1
    device: str = "cpu"
    quick: bool = False
    images: Path | None = None
    runs: tuple[Path, ...] = ()
    folder: Path = Path(".")  # for the files of the naive runs


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of several measurements."""
        return cls(statistics.median(values), min(values), max(values))

    def times(self, factor: float) -> Spread:
        """Return the spread in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Target:
    """A limit that a value must meet."""

    sense: Literal["at most", "at least"]
    limit: float

    def met(self, value: float) -> bool:
        """Return True if the value meets the limit."""
        return value <= self.limit if self.sense == "at most" else value >= self.limit


def at_most(limit: float) -> Target:
    """Return a target with an upper limit."""
    return Target("at most", limit)


def at_least(limit: float) -> Target:
    """Return a target with a lower limit."""
    return Target("at least", limit)


@dataclass
class Record:
    """One row of the table; `arms` has absolute values in `arm_unit`, `reached` the accuracy of each arm."""

    row: str
    what: str
    figure: Spread
    target: Target | None
    unit: str = "x"
    arms: dict[str, Spread] = field(default_factory=dict)
    arm_unit: str = "s"
    reached: dict[str, float] = field(default_factory=dict)
    pairs: int = 0
    note: str = ""

    @property
    def met(self) -> bool | None:
        """True if the median meets the target; None without a target."""
        return None if self.target is None else self.target.met(self.figure.median)


Line = Record | Callable[[], Record]  # measured when called, so that a failure does not affect the other rows


def ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Return the ratios of the pairs, each measured at the same time."""
    return Spread.of([a / b for a, b in zip(above, below, strict=True)])


def machine(options: Options) -> dict[str, Any]:
    """Return the machine and the versions that a value depends on."""
    versions = environment.versions()
    return {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "processor": environment.hardware()["processor"],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": options.threads,
        "clock": CLOCK[0],
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "versions": {name: versions[name] for name in ("python", "torch", "lightning")},
        "commit": (environment.git_state(ROOT) or {}).get("commit"),
        "date": time.strftime("%Y-%m-%d"),
    }


def key(record: Record | dict[str, Any], options: Options) -> str:
    """Return the key of a record; a newer record with the same key replaces it."""
    row, what = (record["row"], record["what"]) if isinstance(record, dict) else (record.row, record.what)
    return f"{row} | {what} | {options.device} | {options.threads}"


class Store:
    """The file results/speed.json with all measured values."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> dict[str, dict[str, Any]]:
        """Return all stored records."""
        found: dict[str, dict[str, Any]] = json.loads(self.path.read_text()) if self.path.is_file() else {}
        return found

    def add(self, record: Record, options: Options) -> dict[str, Any]:
        """Add one record; replaces the file atomically."""
        stored = {**asdict(record), "met": record.met, "machine": machine(options)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            records = {**self.load(), key(record, options): stored}
            aside = self.path.with_suffix(".new")
            aside.write_text(json.dumps(records, indent=1) + "\n")
            os.replace(aside, self.path)
        return stored

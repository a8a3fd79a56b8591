"""Figures, targets and the file that keeps them."""

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
    """What the command line asked for."""

    pairs: int = 5
    threads: int = 1
    device: str = "cpu"
    quick: bool = False
    images: Path | None = None
    runs: tuple[Path, ...] = ()
    folder: Path = Path(".")  # for what naive runs leave behind


@dataclass(frozen=True)
class Spread:
    """Median, least and most."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of several measurements."""
        return cls(statistics.median(values), min(values), max(values))

    def times(self, factor: float) -> Spread:
        """In another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Target:
    """A limit that a figure must keep."""

    sense: Literal["at most", "at least"]
    limit: float

    def met(self, figure: float) -> bool:
        """Whether it is kept."""
        return figure <= self.limit if self.sense == "at most" else figure >= self.limit


def at_most(limit: float) -> Target:
    """The figure may not be more."""
    return Target("at most", limit)


def at_least(limit: float) -> Target:
    """The figure may not be less."""
    return Target("at least", limit)


@dataclass
class Record:
    """One line of the table. `arms` are absolute values in `arm_unit`, `reached` what each arm learned."""

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
        """Whether the median keeps the target; None without one."""
        return None if self.target is None else self.target.met(self.figure.median)


Line = Record | Callable[[], Record]  # measured when called, so that one line's failure does not cost the others


def ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Of the pairs, each measured side by side."""
    return Spread.of([a / b for a, b in zip(above, below, strict=True)])


def machine(options: Options) -> dict[str, Any]:
    """What a figure depends on beside the code."""
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
    """Under which a record is kept: newer ones take its place."""
    row, what = (record["row"], record["what"]) if isinstance(record, dict) else (record.row, record.what)
    return f"{row} | {what} | {options.device} | {options.threads}"


class Store:
    """results/speed.json: every figure as soon as it is there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> dict[str, dict[str, Any]]:
        """All figures so far."""
        found: dict[str, dict[str, Any]] = json.loads(self.path.read_text()) if self.path.is_file() else {}
        return found

    def keep(self, record: Record, options: Options) -> dict[str, Any]:
        """Add one; the file is replaced whole, so that an interruption leaves the old one."""
        kept = {**asdict(record), "met": record.met, "machine": machine(options)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            records = {**self.load(), key(record, options): kept}
            aside = self.path.with_suffix(".new")
            aside.write_text(json.dumps(records, indent=1) + "\n")
            os.replace(aside, self.path)
        return kept

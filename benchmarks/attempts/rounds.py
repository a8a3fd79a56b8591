"""Alternating execution of the arms, and the printed rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measure import Options, Spread, machine, ratios
from benchmarks.table import number, spread


@dataclass(frozen=True)
class AttemptOptions:
    """The options of the command line."""

    rounds: int = 5
    threads: int = 1
    quick: bool = False


def conditions(options: AttemptOptions) -> str:
    """Return the machine and the versions, with the time of a plain sum as a measure of the clock speed."""
    record = machine(Options(threads=options.threads))
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    start = time.perf_counter()
    sum(range(30_000_000))
    return (
        f"{record['processor']}, {record['cores']} cores, {record['threads']} thread(s); {versions}; {record['date']}, "
        f"commit {(record['commit'] or 'unknown')[:7]}; sum(range(30_000_000)) took {time.perf_counter() - start:.2f} s"
    )


def in_turns(arms: Mapping[str, Callable[[], object]], rounds: int, steps: int = 1) -> dict[str, list[float]]:
    """Return the milliseconds per step of each arm, one value per round, after one warmup round."""
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds + 1):
        for name, arm in arms.items():
            start = time.perf_counter()
            for _ in range(steps):
                arm()
            if turn:
                taken[name].append(1000 * (time.perf_counter() - start) / steps)
    return taken


def show(what: str, taken: Mapping[str, Sequence[float]], unit: str = "ms") -> None:
    """Print one row per arm, with its speed relative to the first arm, as the median over the rounds."""
    first = next(iter(taken.values()))
    for name, values in taken.items():
        times = ratios(first, values)
        measured = spread(vars(Spread.of(values)), f" {unit}")
        print(f"| {what} | {name} | {measured} | {number(times.median)} |", flush=True)

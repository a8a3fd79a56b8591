"""Arms in turns, and the rows they print."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measure import Options, Spread, machine, ratios
from benchmarks.table import number, spread


@dataclass(frozen=True)
class Asked:
    """What the command line asked for."""

    rounds: int = 5
    threads: int = 1
    quick: bool = False


def conditions(asked: Asked) -> str:
    """The machine and what runs on it, with the time of a plain sum, which says how fast its clock is."""
    facts = machine(Options(threads=asked.threads))
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    begun = time.perf_counter()
    sum(range(30_000_000))
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['threads']} thread(s); {versions}; {facts['date']}, "
        f"commit {(facts['commit'] or 'unknown')[:7]}; sum(range(30_000_000)) took {time.perf_counter() - begun:.2f} s"
    )


def in_turns(arms: Mapping[str, Callable[[], object]], rounds: int, steps: int = 1) -> dict[str, list[float]]:
    """Milliseconds of one step of each arm, one number a round; the round before the first warms up."""
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds + 1):
        for name, arm in arms.items():
            begun = time.perf_counter()
            for _ in range(steps):
                arm()
            if turn:
                taken[name].append(1000 * (time.perf_counter() - begun) / steps)
    return taken


def show(what: str, taken: Mapping[str, Sequence[float]], unit: str = "ms") -> None:
    """A row for each arm; times faster than the first one, pair by pair."""
    first = next(iter(taken.values()))
    for name, values in taken.items():
        times = ratios(first, values)
        measured = spread(vars(Spread.of(values)), f" {unit}")
        print(f"| {what} | {name} | {measured} | {number(times.median)} |", flush=True)

"""Comparison of the results of two runs, bit for bit."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_deprecation
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks.checkpoints.file_names import BEST, CHECKPOINTS, LAST
from experiments.messages.formatting import count, one_line, shown
from experiments.runs.checkpoint_content import read
from experiments.runs.environment_diff import KINDS, Differs, compare_environments, difference_lines, value_text
from experiments.runs.folder import RunFolder, read_results

# A metric with one of these words in its name is a time or a rate, which differs between any two runs.
_TIMES = {"time", "seconds", "second", "sec", "ms", "duration", "throughput"}
_FIT = ("epoch", "step", "steps", "split", "n")


@dataclass(frozen=True)
class Difference:
    """One value or weight that differs. `apart` is the difference relative to the larger of the two."""

    place: str
    name: str
    there: Any
    here: Any
    apart: float | None = None

    def text(self) -> str:
        """Return the place, both values and the relative difference as text."""
        if self.there is None and self.here is None:
            return f"{self.place}: {self.name} by {self.apart:.2g} of its largest weight"
        by = "" if self.apart is None else f" ({self.apart:.2g} of it)"
        return f"{self.place}: {self.name} was {value_text(self.there)} and is now {value_text(self.here)}{by}"


@dataclass
class Comparison:
    """Comparison of a run with an earlier run, `there`.

    `figures` is the number of values compared, and `differing` the number of those that differ.
    """

    there: str
    rows: int = 0
    figures: int = 0
    differing: int = 0
    first: Difference | None = None
    weights: dict[str, Difference | None] = field(default_factory=dict)  # file -> largest difference, None if equal
    not_compared: list[str] = field(default_factory=list)
    differs: Differs = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """True if all values and weights that both runs have are equal."""
        return self.first is None and not self.is_empty

    @property
    def is_empty(self) -> bool:
        """True if no values and no weights could be compared."""
        return not self.figures and not self.weights

    def content(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {"agrees": self.agrees, **asdict(self)}

    def words(self) -> list[str]:
        """Return `lines()`; the former name."""
        rank_zero_deprecation("Comparison.words is deprecated. Use lines().")
        return self.lines()

    def lines(self) -> list[str]:
        """Return the result as lines of text."""
        values = f"{count(self.figures, 'value')} in {count(self.rows, 'row')}"
        details = [f"        not compared: {what}" for what in self.not_compared] + difference_lines(self.differs)
        if self.is_empty:
            return [f"unknown no results of both runs could be compared with {self.there}", *details]
        if self.agrees:
            files = " and ".join(self.weights)
            weights = "all weights" if len(self.weights) == 2 else f"the weights of {files}" if files else ""
            what = f"all {values}{f' and {weights}' if weights else ''}"
            return [f"agree   {what} are equal, bit for bit, to those of {self.there}.", *details]
        assert self.first is not None
        return [
            f"differ  first in {self.first.text()}",
            f"        {self.differing:,} of {values} differ from those of {self.there}",
            *(
                f"weights {f'{worst.text()} at most' if worst else f'{name}: equal, bit for bit'}"
                for name, worst in self.weights.items()
            ),
            *details,
            *self._causes(),
        ]

    def _causes(self) -> list[str]:
        """Return lines that help to find the cause of a difference."""
        same = [kind for kind in KINDS if kind not in self.differs and kind not in self.unknown]
        lines = [f"same    {', '.join(same)}"] * bool(same)
        lines += [f"unknown {', '.join(self.unknown)}: not recorded"] * bool(self.unknown)
        if self.differs:
            return lines
        if self.weights and not any(self.weights.values()):
            lines.append("The weights are equal, so other code wrote or changed the values.")
        else:
            lines.append(
                "No recorded difference explains this, so some code is not deterministic. Try both runs with "
                "--trainer.deterministic true (without it, GPUs add in any order). Otherwise look for random numbers "
                "without a seed, or code that depends on elapsed time (--trainer.max_time): docs/reproducibility.md."
            )
        return lines


def compare(there: RunFolder, here: RunFolder) -> Comparison:
    """Compare all rows of metrics.csv, the results of fit and of the test after it, and both checkpoints."""
    found = Comparison(shown(there.path))
    found.differs, found.unknown = compare_environments(there, here)
    old, new = _rows(there.metrics), _rows(here.metrics)
    if missing := [folder for folder in (there, here) if not folder.metrics.is_file()]:
        old = new = {}
        found.not_compared.append(_missing("metrics.csv", missing))
    found.rows = len(old.keys() | new.keys())
    differing = [*_metrics(found, old, new), *_results(found, there, here)]
    found.differing = len(differing)
    for name, files in ((BEST, (there.best, here.best)), (LAST, (there.last, here.last))):
        missing = [folder for folder, file in zip((there, here), files, strict=True) if not file.is_file()]
        if missing:
            found.not_compared.append(_missing(name, missing))
        else:
            found.weights[name] = _weights(name, *files)
    found.first = next(iter([*differing, *filter(None, found.weights.values())]), None)
    return found


def check_reference(folder: RunFolder) -> None:
    """Raise an error if metrics.csv cannot be read, before another run is trained to compare with it."""
    if not folder.metrics.is_file():
        return
    try:
        rows = _rows(folder.metrics)
        if not folder.metrics.read_bytes().endswith(b"\n") or not all("step" in row for row in rows.values()):
            raise ValueError("it is incomplete, or has no column `step`")
    except (OSError, ValueError, csv.Error) as error:
        raise MisconfigurationException(
            f"rerun --check: {shown(folder.metrics)} is corrupted ({one_line(str(error), 100)}). Put it back, or "
            "move it away to compare only results and weights."
        ) from error


def _missing(name: str, folders: list[RunFolder]) -> str:
    return f"{name}, not in {' and '.join(shown(folder.path) for folder in folders)}"


def _is_time(name: str) -> bool:
    """Return True if a column measures the speed or load of the machine instead of the model."""
    return name.startswith("DeviceStatsMonitor") or bool(_TIMES & set(re.split(r"[^a-z]+", name.lower())))


def _rows(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: cell or "" for name, cell in row.items() if name} for row in csv.DictReader(file)]
    return {row.get("step", str(number)): row for number, row in enumerate(rows)}


def _metrics(
    found: Comparison, old: Mapping[str, Mapping[str, str]], new: Mapping[str, Mapping[str, str]]
) -> Iterator[Difference]:
    columns = [list(dict.fromkeys(name for row in rows.values() for name in row)) for rows in (old, new)]
    shared = [name for name in columns[0] if name in columns[1]]
    single = [name for names in columns for name in names if name not in shared]
    times = [name for name in shared if _is_time(name)]
    if old and new and single:
        found.not_compared.append(f"columns that only one run has: {', '.join(single)}")
    if times:
        found.not_compared.append(f"times and rates: {', '.join(times)}")
    for step in sorted(old.keys() | new.keys(), key=lambda text: (len(text), text)):
        if step not in old or step not in new:
            found.figures += 1
            yield Difference(f"metrics.csv, step {step}", "row", *_presence(step, old, new))
            continue
        for name in shared:
            if name == "step" or name in times:
                continue
            was, now = old[step].get(name, ""), new[step].get(name, "")
            found.figures += bool(was or now)
            if was != now:
                yield from _value(f"metrics.csv, step {step}", name, _number(was), _number(now))


def _results(found: Comparison, there: RunFolder, here: RunFolder) -> Iterator[Difference]:
    for command in ("fit", "test"):
        old, new = _result(there, command), _result(here, command)
        if not old or not new:
            if command == "fit" or old or new:
                missing = here if old else there
                found.not_compared.append(f"results of {command}, missing in {shown(missing.path)}")
            continue
        hashes = [(record.get("sha256") or {}).get("test_data") for record in (old, new)]
        if command == "test" and hashes[0] != hashes[1]:
            found.differs.setdefault("data", {})["test_data"] = hashes
        was, now = (
            {name: record[name] for name in _FIT if name in record} | (record.get("metrics") or {})
            for record in (old, new)
        )
        for name in was:
            if not _is_time(name):
                found.figures += 1
                yield from _value(f"results.json, {command}", name, was[name], now.get(name))


def _result(folder: RunFolder, command: str) -> dict[str, Any]:
    """Return the last fit, or the first test of the best weights after it; later tests may have other options."""
    records = read_results(folder)
    last = max((index for index, record in enumerate(records) if record["verb"] == "fit"), default=len(records))
    best = f"{CHECKPOINTS}/{BEST}"
    matches = (
        record
        for record in records[last:]
        if record["verb"] == command and (command == "fit" or record.get("checkpoint") == best)
    )
    return next(matches, {})


def _value(place: str, name: str, was: Any, now: Any) -> Iterator[Difference]:
    numbers = [value for value in (was, now) if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < 2:
        if was != now:
            yield Difference(place, name, was, now)
        return
    if was == now or (math.isnan(was) and math.isnan(now)):
        return
    yield Difference(place, name, was, now, abs(was - now) / max(abs(was), abs(now)))


def _weights(name: str, there: Path, here: Path) -> Difference | None:
    """Return the weight that differs most, or None if all are equal bit for bit."""
    old, new = read(there)["state_dict"], read(here)["state_dict"]
    if alone := sorted(old.keys() ^ new.keys()):
        return Difference(name, alone[0], *_presence(alone[0], old, new))
    worst: Difference | None = None
    for weight, was in old.items():
        now = new[weight]
        if not isinstance(was, torch.Tensor) or not isinstance(now, torch.Tensor) or was.shape != now.shape:
            if isinstance(was, torch.Tensor) or was != now:
                return Difference(name, weight, str(getattr(was, "shape", was)), str(getattr(now, "shape", now)))
        elif was.dtype != now.dtype or not _bits(was).equal(_bits(now)):
            one, other = was.double(), now.double()
            apart = float((one - other).abs().max() / torch.maximum(one.abs().max(), other.abs().max()))
            if worst is None or worst.apart is None or not apart <= worst.apart:
                worst = Difference(name, weight, None, None, apart)
    return worst


def _presence(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, str]:
    return ("there" if name in old else "missing", "there" if name in new else "missing")


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _number(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text

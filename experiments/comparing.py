"""Whether two runs have the same numbers, and what differs of all that numbers depend on."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from experiments.checkpoint import read
from experiments.resuming import as_typed, differences
from experiments.run_folder import RunFolder, read_results
from experiments.words import count, shown

Differs = dict[str, dict[str, list[Any]]]  # kind -> name -> [there, here]
KINDS = ("code", "versions", "data", "hardware", "settings")
# Words in the name of a metric that make it a time or a rate, which no two runs have in common.
_CLOCK = {"time", "seconds", "second", "sec", "ms", "duration", "throughput"}
_FIT = ("epoch", "step", "steps", "split", "n")
_MACHINE = ("accelerator", "devices", "nodes", "strategy", "threads")
_ARITHMETIC = ("precision", "channels_last")
_ONLY_LONGER = {"trainer.max_epochs", "trainer.max_steps"}


@dataclass(frozen=True)
class Difference:
    """One figure or weight that differs; `apart` is relative to the larger of the two."""

    place: str
    name: str
    there: Any
    here: Any
    apart: float | None = None

    def words(self) -> str:
        """Where it is, both values, how large."""
        if self.there is None and self.here is None:
            return f"{self.place}: {self.name} by {self.apart:.2g} of its largest weight"
        by = "" if self.apart is None else f" ({self.apart:.2g} of it)"
        return f"{self.place}: {self.name} was {_text(self.there)} and is now {_text(self.here)}{by}"


@dataclass
class Comparison:
    """What came of comparing a run with an earlier one (`there`)."""

    there: str
    rows: int = 0
    figures: int = 0
    differing: int = 0
    first: Difference | None = None
    weights: dict[str, Difference | None] = field(default_factory=dict)  # file -> what differs most; None if equal
    not_compared: list[str] = field(default_factory=list)
    differs: Differs = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether all figures and weights that both have are equal."""
        return self.first is None

    def content(self) -> dict[str, Any]:
        """As plain data."""
        return {"agrees": self.agrees, **asdict(self)}

    def words(self) -> list[str]:
        """What to tell, line by line."""
        figures = f"{count(self.figures, 'figure')} in {count(self.rows, 'row')}"
        if self.agrees:
            files = " and ".join(self.weights)
            weights = "all weights" if len(self.weights) == 2 else f"the weights of {files}" if files else ""
            what = f"every one of {figures}{f' and {weights}' if weights else ''}"
            lines = [f"agree   {what} are equal, bit for bit, to those of {self.there}."]
        else:
            assert self.first is not None
            lines = [
                f"differ  first in {self.first.words()}",
                f"        {self.differing:,} of {figures} differ from those of {self.there}",
                *(
                    f"weights {f'{worst.words()} at most' if worst else f'{name}: equal, bit for bit'}"
                    for name, worst in self.weights.items()
                ),
            ]
        lines += [f"        not compared: {what}" for what in self.not_compared]
        lines += differs_words(self.differs)
        same = [kind for kind in KINDS if kind not in self.differs and kind not in self.unknown]
        if not self.agrees:
            if same:
                lines.append(f"same    {', '.join(same)}")
            lines += [f"unknown {', '.join(self.unknown)}: not written down"] * bool(self.unknown)
        if not self.agrees and not self.differs:
            lines.append(
                "Nothing differs that is written down, so something does not repeat by itself. Try both runs with "
                "--trainer.deterministic true (GPUs add in any order without it); else look for a random number that "
                "no seed decides, or a decision by the clock (--trainer.max_time). See docs/repeatability.md."
            )
        return lines


def differs_words(differs: Differs) -> list[str]:
    """A line for each kind of thing that differs."""
    return [
        f"differs {kind}: {'; '.join(f'{name} {_text(was)} -> {_text(now)}' for name, (was, now) in names.items())}"
        for kind, names in differs.items()
    ]


def compare(there: RunFolder, here: RunFolder) -> Comparison:
    """All rows of metrics.csv, the results of fit (and of the test that followed it), and both checkpoints."""
    found = Comparison(shown(there.path))
    found.differs, found.unknown = circumstances(there, here)
    old, new = _rows(there.metrics), _rows(here.metrics)
    found.rows = len(old.keys() | new.keys())
    differing = [*_metrics(found, old, new), *_results(found, there, here)]
    found.differing = len(differing)
    for name in ("best.ckpt", "last.ckpt"):
        files = [folder.path / "checkpoints" / name for folder in (there, here)]
        missing = [folder for folder, file in zip((there, here), files, strict=True) if not file.is_file()]
        if missing:
            found.not_compared.append(f"{name}, not in {' and '.join(shown(folder.path) for folder in missing)}")
        else:
            found.weights[name] = _weights(name, *files)
    found.first = next(iter([*differing, *filter(None, found.weights.values())]), None)
    return found


def circumstances(there: RunFolder, here: RunFolder) -> tuple[Differs, list[str]]:
    """What differs between two runs beside their numbers, and what kinds were not written down."""
    old, new = _json(there.environment), _json(here.environment)
    code = _unequal(_code(old), _code(new))
    data = _unequal(_part(old, "data", "sha256"), _part(new, "data", "sha256"))
    hardware = _unequal(_part(old, "hardware"), _part(new, "hardware"), ("system", "processor", "cores", "gpus"))
    chosen = _part(old, "chosen"), _part(new, "chosen")
    documents = [yaml.safe_load(folder.config.read_text(encoding="utf-8")) for folder in (there, here)]
    settings = {as_typed(name): list(values) for name, values in differences(*documents).items()}
    start = [(record.get("started_from") or {}).get("sha256") for record in (old, new)]
    if start[0] != start[1]:
        settings["ckpt_path"] = start
    versions = _unequal(_part(old, "versions"), _part(new, "versions"))
    for record in (old, new):
        for part in record.get("resumed") or []:
            step = f"from step {part.get('from_step')} on"
            changed = dict(part.get("changed") or {})
            if part.get("extend_schedule"):
                changed["extend_schedule"] = [None, part["extend_schedule"]]
            if changed.keys() - _ONLY_LONGER:  # a run that was only made longer equals one that was long from the start
                settings |= {f"{name} ({step})": values for name, values in changed.items()}
            newer = _unequal(record.get("versions") or {}, part.get("versions") or {})
            versions |= {f"{name} ({step})": values for name, values in newer.items()}
    found: Differs = {
        "code": code,
        "versions": versions,
        "data": data,
        "hardware": hardware | _unequal(*chosen, _MACHINE),
        "settings": settings | _unequal(*chosen, _ARITHMETIC),
    }
    unknown = [kind for kind, sides in {"code": (_code(old), _code(new)),
                                        "data": (_part(old, "data", "sha256"), _part(new, "data", "sha256"))}.items()
               if not sides[0].keys() & sides[1].keys()]  # fmt: skip
    return {kind: names for kind, names in found.items() if names}, unknown


def _code(record: Mapping[str, Any]) -> dict[str, Any]:
    git = record.get("git") or {}
    named = {"commit": "git commit", "diff_sha256": "uncommitted changes"}
    return {words: git[name] for name, words in named.items() if name in git} | (record.get("sources") or {})


def _part(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    found: Any = record
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _unequal(old: Mapping[str, Any], new: Mapping[str, Any], names: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    """What both sides state, and differently."""
    both = [name for name in (names or old) if name in old and name in new]
    return {name: [old[name], new[name]] for name in both if old[name] != new[name]}


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _is_clock(name: str) -> bool:
    """Whether a column tells of the machine's speed or load, not of what was learnt."""
    return name.startswith("DeviceStatsMonitor") or bool(_CLOCK & set(re.split(r"[^a-z]+", name.lower())))


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
    shared = [name for name in columns[0] if name in columns[1] and name != "step" and not _is_clock(name)]
    alone = [name for names in columns for name in names if (name in columns[0]) != (name in columns[1])]
    clocks = [name for name in columns[0] if name in columns[1] and _is_clock(name)]
    if old and new and alone:
        found.not_compared.append(f"columns that only one run has: {', '.join(alone)}")
    if clocks:
        found.not_compared.append(f"times and rates: {', '.join(clocks)}")
    for step in sorted(old.keys() | new.keys(), key=lambda text: (len(text), text)):
        if step not in old or step not in new:
            yield Difference(f"metrics.csv, step {step}", "row", *_presence(step, old, new))
            continue
        for name in shared:
            was, now = old[step].get(name, ""), new[step].get(name, "")
            found.figures += bool(was or now)
            if was != now:
                yield from _figure(f"metrics.csv, step {step}", name, _number(was), _number(now))


def _results(found: Comparison, there: RunFolder, here: RunFolder) -> Iterator[Difference]:
    for verb in ("fit", "test"):
        records = [_result(folder, verb) for folder in (there, here)]
        if records[0] is None or records[1] is None:
            if verb == "fit" or records != [None, None]:
                one = here if records[0] is not None else there
                found.not_compared.append(f"figures of {verb}, which {shown(one.path)} has none of")
            continue
        flat = [
            {**{name: record.get(name) for name in _FIT if name in record}, **(record.get("metrics") or {})}
            for record in records
            if record is not None
        ]
        for name in [name for name in flat[0] if not _is_clock(name)]:
            found.figures += 1
            yield from _figure(f"results.json, {verb}", name, flat[0][name], flat[1].get(name))


def _result(folder: RunFolder, verb: str) -> dict[str, Any] | None:
    """The last fit, or the first test of the best weights after it: later ones may have had options of their own."""
    records = read_results(folder)
    last = max((place for place, record in enumerate(records) if record.get("verb") == "fit"), default=None)
    if last is None or verb == "fit":
        return None if last is None else records[last]
    best = "checkpoints/best.ckpt"
    tests = [r for r in records[last:] if r.get("verb") == "test" and r.get("checkpoint") == best]
    return tests[0] if tests else None


def _figure(place: str, name: str, was: Any, now: Any) -> Iterator[Difference]:
    numbers = [value for value in (was, now) if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < 2:
        if was != now:
            yield Difference(place, name, was, now)
        return
    if was == now or (math.isnan(was) and math.isnan(now)):
        return
    yield Difference(place, name, was, now, abs(was - now) / max(abs(was), abs(now)))


def _weights(name: str, there: Path, here: Path) -> Difference | None:
    """The weight that differs most, or None where all are equal bit for bit."""
    old, new = read(there)["state_dict"], read(here)["state_dict"]
    if alone := sorted(old.keys() ^ new.keys()):
        return Difference(name, alone[0], *_presence(alone[0], old, new))
    worst: Difference | None = None
    for weight, was in old.items():
        now = new[weight]
        if not isinstance(was, torch.Tensor) or not isinstance(now, torch.Tensor) or was.shape != now.shape:
            if not isinstance(was, torch.Tensor) and was == now:
                continue
            return Difference(name, weight, str(getattr(was, "shape", was)), str(getattr(now, "shape", now)))
        if _bits(was).equal(_bits(now)) and was.dtype == now.dtype:
            continue
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


def _text(value: Any) -> str:
    """A hash is cut short; it is looked at, not typed."""
    if isinstance(value, str):
        return f"{value[:12]}…" if re.fullmatch(r"[0-9a-f]{40,}", value) else value
    return "none" if value is None else json.dumps(value)

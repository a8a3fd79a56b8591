"""The table of docs/benchmarks.md, from the kept figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
HEAD = "| row | what | target | measured | arms | learned | |\n|---|---|---|---|---|---|---|"
ORDER = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10", "dashboards", "deterministic", "memory",
         "G1", "G3", "G4", "G6", "G7")  # fmt: skip
Kept = Mapping[str, Any]


def number(value: float) -> str:
    """Three digits, more where a number needs them to be read."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def spread(values: Kept, unit: str = "") -> str:
    """Median unit (least to most)."""
    middle = f"{number(values['median'])}{unit}"
    if values["low"] == values["high"]:
        return middle
    return f"{middle} ({number(values['low'])} to {number(values['high'])})"


def line(kept: Kept) -> str:
    """One figure."""
    unit = "" if kept["unit"] == "x" else f" {kept['unit']}"
    target = kept["target"]
    limit = f"{'≤' if target['sense'] == 'at most' else '≥'} {number(target['limit'])}{unit}" if target else ""
    arms = "; ".join(f"{name} {spread(values, ' ' + kept['arm_unit'])}" for name, values in kept["arms"].items())
    learned = ", ".join(f"{name} {value:.4f}" for name, value in kept["reached"].items())
    verdict = {True: "met", False: "**missed**", None: ""}[kept["met"]]
    what = f"{kept['what']}<br>{kept['note']}" if kept["note"] else kept["what"]
    return f"| {kept['row']} | {what} | {limit} | {spread(kept['figure'], unit)} | {arms} | {learned} | {verdict} |"


def conditions(kept: Kept) -> str:
    """What a figure was measured on, in words."""
    machine = kept["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    device = "" if machine["device"] == "cpu" else f"{machine['device']}, "
    clock = "processor time; " if machine["clock"] == "processor" else ""
    return (
        f"{clock}{device}{machine['processor']}, {machine['cores']} cores, {machine['threads']} thread(s); {versions}; "
        f"{machine['date']}, commit {(machine['commit'] or 'unknown')[:7]}"
    )


def table(records: Mapping[str, Kept]) -> str:
    """All figures, grouped by what they were measured on; rows without one are said to have none."""
    groups: dict[str, list[Kept]] = {}
    for kept in sorted(records.values(), key=lambda kept: ORDER.index(kept["row"])):
        groups.setdefault(conditions(kept), []).append(kept)
    parts = []
    for words, group in groups.items():
        parts.append("\n".join([f"{words}:", "", HEAD, *(line(kept) for kept in group)]))
    missing = [row for row in ORDER if row not in {kept["row"] for kept in records.values()}]
    if missing:
        parts.append(f"Not measured: {', '.join(missing)}.")
    return "\n\n".join(parts)


def write(page: Path, records: Mapping[str, Kept]) -> None:
    """Put the table between the marks of the page; the rest of it is written by hand."""
    content = page.read_text(encoding="utf-8") if page.is_file() else f"{BEGIN}\n{END}\n"
    before, rest = content.split(BEGIN, 1)
    page.write_text(f"{before}{BEGIN}\n{table(records)}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    print(f"written: {page}")

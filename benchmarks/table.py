"""The table of docs/benchmarks.md, made from the stored values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
HEAD = "| row | what | target | measured | arms | learned | |\n|---|---|---|---|---|---|---|"
ORDER = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10", "C12", "dashboards", "deterministic", "memory",
         "G1", "G3", "G4", "G6", "G7")  # fmt: skip
Stored = Mapping[str, Any]


def number(value: float) -> str:
    """Return a number with three digits, or with all digits before the decimal point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def spread(values: Stored, unit: str = "") -> str:
    """Return "median unit (minimum to maximum)"."""
    middle = f"{number(values['median'])}{unit}"
    if values["low"] == values["high"]:
        return middle
    return f"{middle} ({number(values['low'])} to {number(values['high'])})"


def line(stored: Stored) -> str:
    """Return one row of the table."""
    unit = "" if stored["unit"] == "x" else f" {stored['unit']}"
    target = stored["target"]
    limit = f"{'≤' if target['sense'] == 'at most' else '≥'} {number(target['limit'])}{unit}" if target else ""
    arms = "; ".join(f"{name} {spread(values, ' ' + stored['arm_unit'])}" for name, values in stored["arms"].items())
    learned = ", ".join(f"{name} {value:.4f}" for name, value in stored["reached"].items())
    verdict = {True: "met", False: "**missed**", None: ""}[stored["met"]]
    what = f"{stored['what']}<br>{stored['note']}" if stored["note"] else stored["what"]
    return f"| {stored['row']} | {what} | {limit} | {spread(stored['figure'], unit)} | {arms} | {learned} | {verdict} |"


def conditions(stored: Stored) -> str:
    """Return the machine, versions, date and commit of a value."""
    machine = stored["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    device = "" if machine["device"] == "cpu" else f"{machine['device']}, "
    clock = "processor time; " if machine["clock"] == "processor" else ""
    threads = f"{machine['threads']} thread{'' if machine['threads'] == 1 else 's'}"
    return (
        f"{clock}{device}{machine['processor']}, {machine['cores']} cores, {threads}; {versions}; "
        f"{machine['date']}, commit {(machine['commit'] or 'unknown')[:7]}"
    )


def table(records: Mapping[str, Stored]) -> str:
    """Return all rows, grouped by machine and versions, and the names of the rows without values."""
    groups: dict[str, list[Stored]] = {}
    for stored in sorted(records.values(), key=lambda stored: ORDER.index(stored["row"])):
        groups.setdefault(conditions(stored), []).append(stored)
    parts = []
    for heading, group in groups.items():
        parts.append("\n".join([f"{heading}:", "", HEAD, *(line(stored) for stored in group)]))
    missing = [row for row in ORDER if row not in {stored["row"] for stored in records.values()}]
    if missing:
        parts.append(f"Not measured: {', '.join(missing)}.")
    return "\n\n".join(parts)


def write(page: Path, records: Mapping[str, Stored]) -> None:
    """Write the table between the markers of the page."""
    content = page.read_text(encoding="utf-8") if page.is_file() else f"{BEGIN}\n{END}\n"
    before, rest = content.split(BEGIN, 1)
    page.write_text(f"{before}{BEGIN}\n{table(records)}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    print(f"wrote {page}")

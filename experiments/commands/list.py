"""`litlab list`: what there is to name, without importing torch."""

from __future__ import annotations

import shutil

from experiments.messages.errors import UserMistake
from experiments.messages.text import did_you_mean
from experiments.options import names
from experiments.runs.find import runs, runs_dir

KINDS = ("configs", "models", "data", "callbacks", "runs")


def main(words: list[str]) -> int:
    """Print one kind, or all of them."""
    unknown = [word for word in words if word not in KINDS]
    if unknown:
        raise UserMistake(
            f"list: '{unknown[0]}' is not known.{did_you_mean(unknown[0], KINDS)} Kinds: {', '.join(KINDS)}."
        )
    sections = [_section(kind) for kind in (words or KINDS)]
    print("\n\n".join(sections))
    return 0


def _section(kind: str) -> str:
    if kind == "runs":
        lines = [f"  {run}" for run in runs()]
        return "\n".join(["runs", *(lines or [f"  none yet in {runs_dir()}; `litlab fit` makes the first"])])
    entries = names.configs() if kind == "configs" else names.classes(kind)
    width = max((len(entry.name) for entry in entries), default=0)
    room = max(30, shutil.get_terminal_size((120, 24)).columns - width - 5)
    return "\n".join([kind, *(f"  {entry.name:<{width}}  {_cut(entry.summary, room)}" for entry in entries)])


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 3].rsplit(" ", 1)[0] + "..."

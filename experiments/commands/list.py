"""List the names that the command line accepts: commands, configs, models, data, callbacks and runs."""

from __future__ import annotations

import shutil
from argparse import ArgumentParser, Namespace

from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean
from experiments.options import catalog
from experiments.options.command_table import COMMANDS
from experiments.runs.find import runs, runs_dir

KINDS = ("commands", "configs", "models", "data", "callbacks", "runs")


def add_options(parser: ArgumentParser) -> None:
    """Add the argument KIND."""
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"one or more of: {', '.join(KINDS)}; default: all")


def run(options: Namespace) -> int:
    """Print the given kinds, or all of them."""
    unknown = [kind for kind in options.kinds if kind not in KINDS]
    if unknown:
        raise UserError(
            f"list: unknown kind '{unknown[0]}'.{did_you_mean(unknown[0], KINDS)} Kinds: {', '.join(KINDS)}."
        )
    sections = [_section(kind) for kind in (options.kinds or KINDS)]
    print("\n\n".join(sections))
    return 0


def _section(kind: str) -> str:
    if kind == "runs":
        lines = [f"  {run}" for run in runs()]
        return "\n".join(["runs", *(lines or [f"  none yet in {runs_dir()}; `litlab fit` creates the first"])])
    if kind == "commands":
        entries = [(command.name, command.summary) for command in COMMANDS.values()]
    else:
        found = catalog.configs() if kind == "configs" else catalog.classes(kind)
        entries = [(entry.name, entry.summary) for entry in found]
    width = max((len(name) for name, _ in entries), default=0)
    free = max(30, shutil.get_terminal_size((120, 24)).columns - width - 5)
    return "\n".join([kind, *(f"  {name:<{width}}  {_cut(summary, free)}" for name, summary in entries)])


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3].rsplit(" ", 1)[0] + "..."

"""Table of commands for the front end, the help, completion and the parser. Does not import torch."""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

DEMO = "mlp_digits"  # the config of `litlab fit` without arguments


@dataclass(frozen=True)
class Option:
    """An option of one command; a switch takes no value."""

    name: str
    help: str
    switch: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """One row of the table.

    Args:
        name: Name on the command line.
        arguments: Arguments in the usage line.
        summary: One line of help.
        kind: "plain" for a command with `add_options` and `run` in its file; "config" for one that takes configs, and
            "run" for one that takes a run or a checkpoint. LightningCLI builds the last two.
        file: Name of the file in `experiments/commands/`; default: the name.
        options: Options of the command, in addition to the run options.
    """

    name: str
    arguments: str
    summary: str
    kind: Literal["plain", "config", "run"] = "plain"
    file: str = ""
    options: tuple[Option, ...] = ()

    @property
    def module(self) -> ModuleType:
        """The command's module, imported at the first use."""
        return importlib.import_module(f"experiments.commands.{self.file or self.name}")

    @property
    def help(self) -> str:
        """The help page: the docstring of the command's file, read without importing it."""
        path = Path(__file__).parents[1] / "commands" / f"{self.file or self.name}.py"
        page = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        return page.replace("{command}", self.name)


_RUN = "RUN [options]"
_CHECKPOINT = Option("ckpt_path", "A checkpoint file, a run folder (its last one), or `best` or `last` of the run.")
_UNTRAINED = Option("untrained", "Use random weights instead of a checkpoint.", switch=True)
_EXTEND = Option(
    "extend_schedule", "How the learning rate schedule continues over more epochs.", choices=("hold", "stretch")
)
_CHECK = Option("check", "Compare all metrics and weights with the run afterwards.", switch=True)
_OUTPUT = Option("output", "The CSV file to write; default: a new file in the run folder.")
_SCORED = (_CHECKPOINT, _UNTRAINED)

_ROWS = (
    Command("fit", "[CONFIG ...] [options]", f"train a config; without one, {DEMO}", "config", options=(_CHECKPOINT,)),
    Command("resume", _RUN, "continue a stopped or killed run exactly", "run", options=(_CHECKPOINT, _EXTEND)),
    Command("rerun", "RUN [--check]", "train a run again and compare metrics", "run", options=(_CHECKPOINT, _CHECK)),
    Command("test", _RUN, "score the best weights on the test split", "run", "score", _SCORED),
    Command("validate", _RUN, "score the best weights on the validation split", "run", "score", _SCORED),
    Command("predict", _RUN, "write predictions to a CSV file", "run", options=(*_SCORED, _OUTPUT)),
    Command("board", "[DIR] [--port N]", "open TensorBoard for all runs, an experiment or one run"),
    Command("data", "CONFIG [options]", "show samples, statistics, class balance and duplicates", "config"),
    Command("list", "[KIND ...]", "list commands, configs, models, data, callbacks and runs"),
    Command("info", "", "show versions, devices and the data that was found"),
    Command("completion", "bash|zsh|fish", "print a completion script for a shell"),
)
COMMANDS: dict[str, Command] = {command.name: command for command in _ROWS}

"""The table of commands, read by the front end, the help, completion and the parser. Imports no torch."""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

DEMO = "mlp_digits"  # the config that `litlab fit` trains when none is named


@dataclass(frozen=True)
class Option:
    """An option of one command that LightningCLI builds; a switch takes no value."""

    name: str
    help: str
    switch: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """One row: a name, what follows it, one line of help, and the file in `experiments/commands/` that does the work.

    `kind` says what the command needs: "plain" commands have only options of their own (`add_options` and `run` in
    their file). "config" commands take configs, "run" commands a run or a checkpoint. LightningCLI builds both, with
    `options` added to those of every run.
    """

    name: str
    arguments: str
    summary: str
    kind: Literal["plain", "config", "run"] = "plain"
    file: str = ""  # default: the name
    options: tuple[Option, ...] = ()

    @property
    def module(self) -> ModuleType:
        """The command's module, imported now."""
        return importlib.import_module(f"experiments.commands.{self.file or self.name}")

    @property
    def help(self) -> str:
        """The help page: the docstring of the command's file, read without importing it."""
        path = Path(__file__).parents[1] / "commands" / f"{self.file or self.name}.py"
        page = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        return page.replace("{command}", self.name)


_CHECKPOINT = Option("ckpt_path", "A checkpoint file, a run folder (its last one), or `best` or `last` of the run.")
_UNTRAINED = Option("untrained", "Use random weights, on purpose.", switch=True)
_EXTEND = Option(
    "extend_schedule", "How the learning rate schedule continues over more epochs.", choices=("hold", "stretch")
)
_CHECK = Option("check", "Compare all metrics and weights with the run afterwards.", switch=True)
_OUTPUT = Option("output", "The CSV file to write; default: a new file in the run folder.")

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command(
            "fit",
            "[CONFIG ...] [options]",
            f"train a config and store a run; without one, {DEMO}",
            "config",
            "",
            (_CHECKPOINT,),
        ),
        Command(
            "resume", "RUN [options]", "continue a stopped or killed run exactly", "run", "", (_CHECKPOINT, _EXTEND)
        ),
        Command(
            "rerun", "RUN [--check]", "train a run again and compare the numbers", "run", "", (_CHECKPOINT, _CHECK)
        ),
        Command(
            "test",
            "RUN [options]",
            "score the best weights on the test split",
            "run",
            "score",
            (_CHECKPOINT, _UNTRAINED),
        ),
        Command(
            "validate",
            "RUN [options]",
            "score the best weights on the validation split",
            "run",
            "score",
            (_CHECKPOINT, _UNTRAINED),
        ),
        Command(
            "predict", "RUN [options]", "write predictions to a CSV file", "run", "", (_CHECKPOINT, _UNTRAINED, _OUTPUT)
        ),
        Command("board", "[DIR] [--port N]", "open TensorBoard for all runs, an experiment or one run"),
        Command("data", "CONFIG [options]", "show samples, statistics, class balance and duplicates", "config"),
        Command("list", "[KIND ...]", "list commands, configs, models, data, callbacks and runs"),
        Command("info", "", "show versions, devices and the data that was found"),
        Command("completion", "bash|zsh|fish", "print a completion script for a shell"),
    )
}

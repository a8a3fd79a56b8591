"""Conversion of command-line arguments to a request. Does not import torch."""

from __future__ import annotations

import os
from pathlib import Path

from experiments.messages.errors import UserError
from experiments.options.catalog import find_config
from experiments.options.command_table import DEMO, Command
from experiments.options.request import Given, Request, known_keys, unknown_option
from experiments.runs.find import find_run


def read_request(command: Command, arguments: list[str]) -> Request:
    """Return the request; the configs or the run come first, then the options, which begin with `--`."""
    rest = list(arguments)
    leading = []
    while rest and not _is_option(rest[0]):
        leading.append(rest.pop(0))
    request = Request(command)
    while rest:
        _read_option(request, rest.pop(0), rest)
    if command.kind == "config":
        if not leading and not request.configs and not request.asks_for_help:
            leading = [DEMO]
        request.configs = [find_config(name) for name in leading] + request.configs
    else:
        _read_run(request, leading)
    return request


def _read_option(request: Request, argument: str, rest: list[str]) -> None:
    """Add one option to the request; remove its value from `rest` if it is a separate argument."""
    if not _is_option(argument):
        raise UserError(
            f"unexpected argument '{argument}'. Pass configs and runs right after the command, and options as "
            "--name VALUE."
        )
    head, equals, text = argument.partition("=")
    name = head.removeprefix("--")
    if name == "debug":
        request.debug = True
    elif name == "help-all":
        request.actions.append("--help")
    elif name == "print_config":
        request.actions.append(argument)
    elif any(option.name == name and option.switch for option in request.command.options):
        request.given.append(Given(name, not equals or text.lower() not in ("false", "0")))
    else:
        _add_value(request, head, text if equals else _take_value(rest))


def _add_value(request: Request, option: str, value: str | None) -> None:
    """Add an option that takes a value; only `--model.help` and the like may have none."""
    name, own = option.removeprefix("--").removesuffix("+"), [option.name for option in request.command.options]
    if option in ("--config", "-c"):
        if not value or _is_option(value):
            raise UserError("--config needs a file or the name of a shipped config. Set --config FILE.")
        request.configs.append(find_config(value))
    elif name.endswith(".help"):
        request.actions.append(f"{option}={value}" if value else option)
    elif value is None and name.partition(".")[0] not in (*known_keys(), *own):
        raise unknown_option(name, [*known_keys(), *own])
    elif value is None or (not value and name in own):
        raise UserError(f"{option} needs a value. Set {option} VALUE.")
    else:
        request.given.append(Given(name, value, option.endswith("+")))


def _take_value(rest: list[str]) -> str | None:
    """Remove and return the first argument, or return None if it is an option or missing."""
    return rest.pop(0) if rest and not _is_option(rest[0]) else None


def _read_run(request: Request, leading: list[str]) -> None:
    """Set the run. A checkpoint file becomes `--ckpt_path`; with `--untrained`, the argument is a config."""
    name = request.command.name
    trains = name in ("resume", "rerun")
    if len(leading) > 1:
        raise UserError(f"{name} takes one run, got {len(leading)}: {' '.join(leading)}. Pass only one.")
    if not leading:
        if trains and not request.asks_for_help:
            raise UserError(
                f"{name} needs a run, got none. Pass one: `litlab {name} RUN`; `litlab list runs` shows all."
            )
        return
    (argument,) = leading
    if argument.endswith(".ckpt") and name != "rerun":
        request.given.insert(0, Given("ckpt_path", argument))
    elif request.option("untrained") and not trains:
        request.configs.insert(0, find_config(argument))
    else:
        # Rank 0 passes the run that it found to other ranks, because a newer run may have begun since.
        started_by_litlab = os.environ.get("LOCAL_RANK", "0") != "0" and not started_by_launcher()
        source = os.environ.get("LITLAB_HANDED_SOURCE") if started_by_litlab else None
        request.run = Path(source) if source else find_run(argument, trained=name != "resume")


def _is_option(argument: str) -> bool:
    return argument.startswith(("--", "-c=")) or argument == "-c"


def started_by_launcher() -> bool:
    """Return True if torchrun or srun started this process; several processes would print the same error."""
    return bool({"TORCHELASTIC_RUN_ID", "SLURM_STEP_ID"} & os.environ.keys())

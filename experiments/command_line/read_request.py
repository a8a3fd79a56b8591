"""Reading command-line arguments into a request. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean
from experiments.options.catalog import find_config
from experiments.options.command_table import DEMO, Command
from experiments.options.request import Given, Request
from experiments.options.run_options import RunOptions
from experiments.runs.find import find_run


def read_request(command: Command, arguments: list[str]) -> Request:
    """Read arguments; the configs or the run come first, everything else begins with `--`."""
    leading = []
    rest = list(arguments)
    while rest and not _is_option(rest[0]):
        leading.append(rest.pop(0))
    request = Request(command)
    _read_options(request, iter(rest))
    if command.kind == "config":
        if not leading and not request.configs and not request.asks_for_help:
            leading = [DEMO]
        request.configs = [find_config(name) for name in leading] + request.configs
    else:
        _read_run(request, leading)
    return request


def _read_options(request: Request, rest: Iterator[str]) -> None:
    own = {option.name: option for option in request.command.options}
    for word in rest:
        if not _is_option(word):
            raise UserError(
                f"unexpected argument '{word}'. Configs and runs come right after the command; everything else begins "
                "with `--`."
            )
        head, equals, text = word.partition("=")
        name = head.removeprefix("--")
        if head in ("--config", "-c"):
            request.configs.append(_config(text if equals else next(rest, "")))
        elif name == "debug":
            request.debug = True
        elif _is_action(name):
            request.actions.append(_action(word, rest))
        elif name in own and own[name].switch:
            request.given.append(Given(name, text.lower() not in ("false", "0") if equals else True))
        else:
            value = text if equals else _value(word, rest, request.command)
            if not value and name in own:
                raise UserError(f"--{name} needs a value after it.")
            request.given.append(Given(name.removesuffix("+"), value, name.endswith("+")))


def _config(text: str) -> Path:
    if not text or _is_option(text):
        raise UserError("--config needs a file or the name of a shipped config after it.")
    return find_config(text)


def _is_action(name: str) -> bool:
    return name in ("help-all", "print_config") or name.endswith(".help")


def _action(word: str, rest: Iterator[str]) -> str:
    """Return what the parser answers: `--help`, `--print_config[=FLAGS]` or `--model.help[=NAME]`."""
    if word == "--help-all":
        return "--help"
    if "=" in word or not word.endswith(".help"):
        return word
    value = next(rest, "")
    return f"{word}={value}" if value else word


def _value(option: str, rest: Iterator[str], command: Command) -> str:
    value = next(rest, None)
    if value is not None and not value.startswith("--"):
        return value
    known = {field.name for field in fields(RunOptions)} | {own.name for own in command.options}
    known |= {"seed_everything", "model", "data", "trainer"}
    name = option.removeprefix("--").removesuffix("+")
    if name.partition(".")[0] not in known:
        hint = did_you_mean(name, [*known, "config", "debug", "help-all"]).replace("mean ", "mean --")
        raise UserError(f"'{option}' is not an option.{hint} `--help` shows the usual options, `--help-all` every one.")
    raise UserError(f"{option} needs a value after it.")


def _read_run(request: Request, leading: list[str]) -> None:
    """Find the run; a checkpoint file stands for `--ckpt_path`, and with `--untrained` a config for a run."""
    name = request.command.name
    trains = name in ("resume", "rerun")
    if len(leading) > 1:
        raise UserError(f"{name} takes one run, got {len(leading)}: {' '.join(leading)}.")
    if not leading:
        if trains and not request.asks_for_help:
            raise UserError(
                f"{name} needs a run, got none. Pass one: `litlab {name} RUN`; `litlab list runs` shows all."
            )
        return
    (word,) = leading
    if word.endswith(".ckpt") and name != "rerun":
        request.given.insert(0, Given("ckpt_path", word))
    elif request.option("untrained") and not trains:
        request.configs.insert(0, find_config(word))
    else:
        # By now a later process may find a newer run of that name: it takes the one of the first process.
        later = os.environ.get("LOCAL_RANK", "0") != "0" and not launched()
        handed = os.environ.get("LITLAB_HANDED_SOURCE") if later else None
        request.run = Path(handed) if handed else find_run(word, trained=name != "resume")


def _is_option(word: str) -> bool:
    return word.startswith(("--", "-c=")) or word == "-c"


def launched() -> bool:
    """Return True if torchrun or srun has started several processes, which would all print the same."""
    return bool({"TORCHELASTIC_RUN_ID", "SLURM_STEP_ID"} & os.environ.keys())

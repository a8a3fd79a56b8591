"""Requests: what the user asks for, from the command line or from Python. Does not import torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean
from experiments.options.command_table import Command
from experiments.options.run_options import RunOptions

SECTIONS = ("model", "data", "trainer")


@dataclass(frozen=True)
class Given:
    """An option as given: its dotted name, and text from the command line or a value from Python.

    `append` is True for `--name+=value`.
    """

    name: str
    value: Any
    append: bool = False


@dataclass
class Request:
    """A command with the configs, the run and the options given to it."""

    command: Command
    configs: list[Path] = field(default_factory=list)
    run: Path | None = None
    given: list[Given] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)  # for the parser: `--help`, `--print_config`, `--model.help=NAME`
    objects: dict[str, Any] = field(default_factory=dict)  # Trainer arguments from Python that are not plain data
    debug: bool = False

    def option(self, name: str) -> Any:
        """Return the last value of an option by its full name, or None if it was not given."""
        return next((option.value for option in reversed(self.given) if option.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the given options, without `init_args`."""
        return tuple(option.name.replace(".init_args.", ".") for option in self.given)

    @property
    def asks_for_help(self) -> bool:
        """True if the parser only prints help, which needs no config or run."""
        return any(not action.startswith("--print_config") for action in self.actions)

    @classmethod
    def from_python(
        cls, command: Command, values: Mapping[str, Any], configs: list[Path], objects: dict[str, Any] | None = None
    ) -> Request:
        """Return the request for values by dotted name."""
        given = [Given(key.removesuffix("+"), _plain(key, value), key.endswith("+")) for key, value in values.items()]
        return cls(command, list(configs), given=given, objects=objects or {})


def known_keys() -> list[str]:
    """Return the top-level keys of a config, which are options of every command with a model and data."""
    return [*(field.name for field in fields(RunOptions)), "seed_everything", *SECTIONS]


def unknown_option(name: str, known: Iterable[str]) -> UserError:
    """Return the error for an option that does not exist, with the closest name of `known`."""
    hint = did_you_mean(name, [*known, "config", "print_config", "debug", "help", "help-all"])
    hint = hint.replace("Did you mean ", "Did you mean --")
    return UserError(f"'--{name}' is not an option.{hint} Pass --help for the usual options, --help-all for every one.")


def _plain(name: str, value: Any) -> Any:
    """Return a value from Python as a config file would contain it."""
    if isinstance(value, (str, Path)):
        return str(value)
    try:
        return json.loads(json.dumps(value, default=_as_json))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"fit: {name} must be plain data, got {error}. Pass numbers, text, or lists and mappings of them."
        ) from error


def _as_json(value: Any) -> Any:
    found = str(value) if isinstance(value, Path) else python_number(value)
    if found is value:
        raise TypeError(f"a value of type {type(value).__name__}")
    return found


def python_number(value: Any) -> Any:
    """Return a NumPy or torch scalar as a Python number, and any other value unchanged."""
    return value.item() if getattr(value, "ndim", None) == 0 else value

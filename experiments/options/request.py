"""What was asked for: a command with its configs, run and options, as typed. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.messages.errors import UserError
from experiments.options.command_table import Command


@dataclass(frozen=True)
class Given:
    """One option as given: its dotted name, and text from the command line or a value from Python.

    `append` is set for `--name+=value`.
    """

    name: str
    value: Any
    append: bool = False


@dataclass
class Request:
    """A command, its config files in order, the run that it is about, and the options that were given.

    `actions` are what only the parser can answer (`--help-all`, `--print_config`, `--model.help NAME`); `objects` are
    Trainer arguments that only Python can give.
    """

    command: Command
    configs: list[Path] = field(default_factory=list)
    run: Path | None = None
    given: list[Given] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    objects: dict[str, Any] = field(default_factory=dict)
    debug: bool = False

    def option(self, name: str) -> Any:
        """Return the last value given to an option by its full name, or None."""
        return next((option.value for option in reversed(self.given) if option.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all options that were given, without `init_args`."""
        return tuple(option.name.replace(".init_args.", ".") for option in self.given)

    @property
    def asks_for_help(self) -> bool:
        """True if the parser only prints help, for which no config or run is needed."""
        return any(not action.startswith("--print_config") for action in self.actions)

    @classmethod
    def from_python(
        cls, command: Command, values: Mapping[str, Any], configs: list[Path], objects: dict[str, Any] | None = None
    ) -> Request:
        """Make a request of values by dotted name."""
        given = [Given(key.removesuffix("+"), _plain(key, value), key.endswith("+")) for key, value in values.items()]
        return cls(command, list(configs), given=given, objects=objects or {})


def _plain(name: str, value: Any) -> Any:
    """Return a value from Python as plain data, in the form of a config file."""
    if isinstance(value, (str, Path)):
        return str(value)
    try:
        return json.loads(json.dumps(value, default=_item))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"fit: {name} must be plain data, got {error}. Pass numbers, text, or lists and mappings of them."
        ) from error


def _item(value: Any) -> Any:
    """Return a path as text and a number of NumPy's or torch's as Python's."""
    if isinstance(value, Path):
        return str(value)
    if getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"a value of type {type(value).__name__}")

"""The argument parser of the commands that need no Lightning."""

from __future__ import annotations

import argparse
from typing import NoReturn

from experiments.messages.errors import UserError
from experiments.options.command_table import Command


class OptionParser(argparse.ArgumentParser):
    """argparse that raises UserError with one sentence instead of printing its usage."""

    def __init__(self, command: Command) -> None:
        super().__init__(
            prog=f"litlab {command.name}",
            usage=f"litlab {command.name} {command.arguments}".rstrip(),
            description=command.help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.command = command.name

    def parse_args(self, args: list[str]) -> argparse.Namespace:  # type: ignore[override]
        """Parse; reject the first argument that is not known and show the usage."""
        options, unknown = self.parse_known_args(args)
        if unknown:
            what = "an option" if unknown[0].startswith("-") else "expected"
            self.error(
                f"'{unknown[0]}' is not {what}. {' '.join(self.format_usage().split()).replace('usage', 'Usage', 1)}"
            )
        return options

    def error(self, message: str) -> NoReturn:
        """Raise the sentence."""
        raise UserError(f"{self.command}: {message.rstrip('.')}.")

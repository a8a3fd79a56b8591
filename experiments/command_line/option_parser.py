"""Argument parser of the commands without a model and data."""

from __future__ import annotations

import argparse
from typing import NoReturn

from experiments.messages.errors import UserError
from experiments.options.command_table import Command


class OptionParser(argparse.ArgumentParser):
    """ArgumentParser that raises UserError."""

    def __init__(self, command: Command) -> None:
        super().__init__(
            prog=f"litlab {command.name}",
            usage=f"litlab {command.name} {command.arguments}".rstrip(),
            description=command.help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the message with the usage."""
        raise UserError(f"{message.rstrip('.')}. Usage: {self.usage}.")

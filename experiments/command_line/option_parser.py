"""The argument parser of the commands that need no Lightning."""

from __future__ import annotations

import argparse
from typing import NoReturn

from experiments.messages.errors import UserError


class OptionParser(argparse.ArgumentParser):
    """argparse that raises UserError with one sentence instead of printing its usage."""

    def __init__(self, command: str, page: str) -> None:
        super().__init__(
            prog=f"litlab {command}",
            description=page,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.command = command

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
        message = message.replace("expected one argument", "a value must follow").removeprefix("argument ")
        raise UserError(f"{self.command}: {message.rstrip('.')}.")

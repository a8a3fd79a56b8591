"""The argument parser, whose errors are one sentence with a way out."""

from typing import NoReturn

from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.command_line.parser_errors import explain, explain_inner


class LitlabParser(LightningArgumentParser):
    """LightningArgumentParser that raises `MisconfigurationException` in words instead of printing its usage.

    `named` holds the classes asked for as model and data; it is set on the outermost parser only, as jsonargparse
    makes parsers of the same class for the settings of each class.
    """

    named: dict[str, str] | None = None

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Called by jsonargparse and argparse for whatever does not parse."""
        keys = list(self.get_defaults(skip_validation=True).keys())
        text = explain_inner(message, keys) if self.named is None else explain(message, keys, self.named)
        raise MisconfigurationException(text) from ex

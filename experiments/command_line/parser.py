"""The argument parser whose errors are one sentence with a way out."""

from typing import NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from experiments.command_line.parser_errors import explain, explain_inner
from experiments.messages.errors import UserError


class LitlabParser(LightningArgumentParser):
    """LightningArgumentParser that raises UserError instead of printing its usage.

    `outermost` is set on the parser of the command; jsonargparse makes more of the same class for arguments of classes.
    """

    outermost = False

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the sentence; jsonargparse and argparse call this for whatever does not parse."""
        raise UserError(explain(message) if self.outermost else explain_inner(message)) from ex

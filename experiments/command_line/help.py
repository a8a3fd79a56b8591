"""Help pages of one screen; the parser itself prints `--help-all`. Does not import torch."""

from __future__ import annotations

from textwrap import fill

from experiments.options import catalog
from experiments.options.command_table import COMMANDS, DEMO, Command
from experiments.version import VERSION

_OVERVIEW = """\
litlab {version}: deep-learning experiments from one YAML file

commands
{commands}

examples
  litlab fit
  litlab fit cnn_fashion_mnist --trainer.max_epochs 2
  litlab test cnn_fashion_mnist

configs  {configs}
models   {models}
data     {data}

`litlab COMMAND --help` shows the options. CONFIG is a file or one of the names above; RUN is a folder in runs/ or an
experiment's name, meaning its newest run."""


def overview() -> str:
    """Return the output of `litlab` without arguments."""
    configs = [entry.name for entry in catalog.configs() if not entry.summary.startswith("Fragment")]
    rows = [(f"litlab {command.name} {command.arguments}", command.summary) for command in COMMANDS.values()]
    return _OVERVIEW.format(
        version=VERSION,
        commands="\n".join(f"  {usage:<36}{summary}" for usage, summary in rows),
        configs=_wrap(configs),
        models=_wrap([entry.name for entry in catalog.classes("models")]),
        data=_wrap([entry.name for entry in catalog.classes("data")]),
    )


def page(command: Command) -> str:
    """Return the output of `litlab COMMAND --help` for a command with a model and data."""
    models = [entry.name for entry in catalog.classes("models")]
    data = [entry.name.removesuffix("DataModule") for entry in catalog.classes("data")]
    split = "validation" if command.name == "validate" else command.name
    page = command.help.replace("{demo}", DEMO).replace("{split}", split)
    return page.replace("{models}", _wrap(models, 35)).replace("{data}", _wrap(data, 35))


def _wrap(names: list[str], indent: int = 9) -> str:
    space = " " * indent
    return fill(" ".join(names), 120, initial_indent=space, subsequent_indent=space, break_on_hyphens=False).lstrip()

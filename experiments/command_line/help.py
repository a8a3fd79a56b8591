"""Help that fits one screen and appears at once; `--help-all` asks the real parser. Imports no torch."""

from __future__ import annotations

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
    """Return what `litlab` alone prints."""
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
    """Return what `litlab COMMAND --help` prints for a command that LightningCLI builds."""
    models = [entry.name for entry in catalog.classes("models")]
    data = [entry.name.removesuffix("DataModule") for entry in catalog.classes("data")]
    filled = {
        "{demo}": DEMO,
        "{models}": _wrap(models, 35),
        "{data}": _wrap(data, 35),
        "{split}": {"validate": "validation"}.get(command.name, command.name),
    }
    text = command.help
    for mark, value in filled.items():
        text = text.replace(mark, value)
    return text


def _wrap(words: list[str], indent: int = 9, width: int = 120) -> str:
    lines, line = [], ""
    for word in words:
        if line and indent + len(line) + 1 + len(word) > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return ("\n" + " " * indent).join([*lines, line])

"""Print a completion script for bash, zsh or fish. Add `eval "$(litlab completion bash)"` to your shell's startup file."""

from __future__ import annotations

import ast
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

from experiments.commands.list import KINDS
from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean
from experiments.options import catalog
from experiments.options.command_table import COMMANDS
from experiments.options.run_options import RunOptions

SHELLS = ("bash", "zsh", "fish")
# Written by hand: shtab (1.13) would also need one function per shell to look up runs, and a parser with all options of
# models and data, which it would print once per command.


def add_options(parser: ArgumentParser) -> None:
    """Add the argument SHELL."""
    parser.add_argument("shell", nargs="?", metavar="SHELL", help=", ".join(SHELLS))


def run(options: Namespace) -> int:
    """Print the script for one shell."""
    if options.shell not in SHELLS:
        hint = did_you_mean(options.shell, SHELLS) if options.shell else ""
        got = f"'{options.shell}'" if options.shell else "none"
        raise UserError(f"completion: SHELL must be one of {', '.join(SHELLS)}, got {got}.{hint}")
    print(script(options.shell))
    return 0


def script(shell: str) -> str:
    """Return the completion script; it looks up runs when TAB is pressed and contains all other names."""
    separator = " " if shell == "fish" else "|"
    lists = {
        "commands": " ".join(COMMANDS),
        "take_config": separator.join(name for name, command in COMMANDS.items() if command.kind == "config"),
        "take_run": separator.join(name for name, command in COMMANDS.items() if command.kind == "run"),
        "configs": " ".join(entry.name for entry in catalog.configs()),
        "options": " ".join(sorted({f"--{name}" for name in options()})),
        "kinds": " ".join(KINDS),
        "shells": " ".join(SHELLS),
    }
    if shell == "fish":
        return _FISH.format(**lists)
    script = _BASH.format(**lists)
    return f"autoload -U +X bashcompinit && bashcompinit\n{script}" if shell == "zsh" else script


def options() -> Iterator[str]:
    """Yield option names without dashes: those of runs, commands, the Trainer, and all models and data."""
    yield from ("config", "debug", "help-all", "print_config", "seed_everything")
    yield from (field.name for field in fields(RunOptions))
    yield from (option.name for command in COMMANDS.values() for option in command.options)
    spec = find_spec("lightning")
    if spec is not None and spec.origin is not None:
        yield from _arguments("trainer", Path(spec.origin).parent / "pytorch/trainer/trainer.py", "Trainer")
    for section, package, prefix, suffix in (
        ("model", "lit_models", "Lit", ""),
        ("data", "datamodules", "", "DataModule"),
    ):
        yield section
        for path in catalog.package_folder(package).rglob("*.py"):
            yield from _arguments(section, path, prefix, suffix)


def _arguments(section: str, path: Path, prefix: str, suffix: str = "") -> Iterator[str]:
    """Yield `section.argument` for the constructor arguments of the classes in a file with this prefix and suffix."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []:
        if isinstance(node, ast.ClassDef) and node.name.startswith(prefix) and node.name.endswith(suffix):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    arguments = (*item.args.args, *item.args.kwonlyargs)
                    yield from (f"{section}.{argument.arg}" for argument in arguments if argument.arg != "self")


_BASH = """\
_litlab() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" runs="${{LITLAB_RUNS_DIR:-runs}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{commands}"
  elif [[ "$word" == -* ]]; then
    words="{options}"
  else
    case "${{COMP_WORDS[1]}}" in
      {take_config}) words="{configs}" ;;
      {take_run}) words="$(cd "$runs" 2>/dev/null && ls)" ;;
      list) words="{kinds}" ;;
      completion) words="{shells}" ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  [ ${{#COMPREPLY[@]}} -eq 0 ] && COMPREPLY=($(compgen -f -- "$word"))
}}
complete -F _litlab litlab"""

_FISH = """\
complete -c litlab -n __fish_use_subcommand -f -a "{commands}"
complete -c litlab -n "__fish_seen_subcommand_from {take_config}" -a "{configs}"
complete -c litlab -n "__fish_seen_subcommand_from {take_run}" -a "(ls (set -q LITLAB_RUNS_DIR; and echo \\$LITLAB_RUNS_DIR; or echo runs) 2>/dev/null)"
complete -c litlab -n "__fish_seen_subcommand_from list" -f -a "{kinds}"
complete -c litlab -n "__fish_seen_subcommand_from completion" -f -a "{shells}"
for option in {options}
  complete -c litlab -n "not __fish_use_subcommand" -l (string sub -s 3 -- $option)
end"""

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
# The scripts are written by hand: shtab (1.13) would still need a function per shell to look up runs, and a parser with
# all options of models and data, which it prints once per command.


def add_options(parser: ArgumentParser) -> None:
    """Add the shell."""
    parser.add_argument("shell", nargs="?", metavar="SHELL", help=", ".join(SHELLS))


def run(options: Namespace) -> int:
    """Print the script for one shell."""
    if options.shell not in SHELLS:
        hint = did_you_mean(options.shell, SHELLS) if options.shell else ""
        raise UserError(f"completion: name the shell: {', '.join(SHELLS)}.{hint}")
    print(script(options.shell))
    return 0


def script(shell: str) -> str:
    """Return the completion script; it looks up runs when TAB is pressed and contains everything else."""
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
    """Return option names without dashes: of the run, the commands, the Trainer, and all models and data."""
    yield from (
        "config",
        "debug",
        "help-all",
        "print_config",
        "seed_everything",
        *(field.name for field in fields(RunOptions)),
    )
    yield from (option.name for command in COMMANDS.values() for option in command.options)
    yield from (f"trainer.{name}" for name in _trainer_arguments())
    for section, package, prefix, suffix in (
        ("model", "lit_models", "Lit", ""),
        ("data", "datamodules", "", "DataModule"),
    ):
        yield section
        for path in catalog.package_folder(package).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and node.name.startswith(prefix) and node.name.endswith(suffix):
                    yield from (f"{section}.{name}" for name in _init_arguments(node))


def _trainer_arguments() -> list[str]:
    spec = find_spec("lightning")
    if spec is None or spec.origin is None:
        return []
    path = Path(spec.origin).parent / "pytorch" / "trainer" / "trainer.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []:
        if isinstance(node, ast.ClassDef) and node.name == "Trainer":
            return _init_arguments(node)
    return []


def _init_arguments(node: ast.ClassDef) -> list[str]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return [a.arg for a in (*item.args.args, *item.args.kwonlyargs) if a.arg != "self"]
    return []


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

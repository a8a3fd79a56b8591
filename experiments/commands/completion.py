"""`litlab completion SHELL`: a script with all names in it, made without importing torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from experiments.commands.list import KINDS
from experiments.messages.errors import UserMistake
from experiments.messages.text import did_you_mean
from experiments.options import names
from experiments.options.verbs import VERBS

SHELLS = ("bash", "zsh", "fish")
_RUN = (
    "experiment",
    "monitor",
    "mode",
    "patience",
    "min_delta",
    "test_after_fit",
    "not_finite",
    "save_every_steps",
    "save_every_minutes",
    "channels_last",
    "threads",
    "compile",
    "steps_per_call",
    "seed_everything",
    "config",
    "print_config",
)
_SCORED = ("ckpt_path", "untrained", "output", "check", "extend_schedule")


def main(words: list[str]) -> int:
    """Print the script for one shell."""
    if len(words) != 1 or words[0] not in SHELLS:
        hint = did_you_mean(words[0], SHELLS) if words else ""
        raise UserMistake(f"completion: name the shell: {', '.join(SHELLS)}.{hint}")
    print(script(words[0]))
    return 0


def script(shell: str) -> str:
    """The completion script; runs are looked up when TAB is pressed, all else stands in it."""
    lists = {
        "verbs": " ".join(VERBS),
        "configs": " ".join(entry.name for entry in names.configs()),
        "options": " ".join(sorted({f"--{name}" for name in options()})),
        "kinds": " ".join(KINDS),
    }
    if shell == "fish":
        return _FISH.format(**lists)
    script = _BASH.format(**lists)
    return f"autoload -U +X bashcompinit && bashcompinit\n{script}" if shell == "zsh" else script


def options() -> Iterator[str]:
    """Option names without dashes: of the run, of the Trainer, of all models and data."""
    yield from (*_RUN, *_SCORED)
    yield from (f"trainer.{name}" for name in _trainer_arguments())
    for section, package, prefix, suffix in (
        ("model", "lit_models", "Lit", ""),
        ("data", "datamodules", "", "DataModule"),
    ):
        yield section
        for path in names.room(package).rglob("*.py"):
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
    words="{verbs}"
  elif [[ "$word" == -* ]]; then
    words="{options}"
  else
    case "${{COMP_WORDS[1]}}" in
      fit) words="{configs}" ;;
      test|validate|predict|resume|rerun) words="$(cd "$runs" 2>/dev/null && ls)" ;;
      list) words="{kinds}" ;;
      completion) words="bash zsh fish" ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  [ ${{#COMPREPLY[@]}} -eq 0 ] && COMPREPLY=($(compgen -f -- "$word"))
}}
complete -F _litlab litlab"""

_FISH = """\
complete -c litlab -n __fish_use_subcommand -f -a "{verbs}"
complete -c litlab -n "__fish_seen_subcommand_from fit" -a "{configs}"
complete -c litlab -n "__fish_seen_subcommand_from test validate predict resume rerun" -a "(ls (set -q LITLAB_RUNS_DIR; and echo \\$LITLAB_RUNS_DIR; or echo runs) 2>/dev/null)"
complete -c litlab -n "__fish_seen_subcommand_from list" -f -a "{kinds}"
for option in {options}
  complete -c litlab -n "not __fish_use_subcommand" -l (string sub -s 3 -- $option)
end"""

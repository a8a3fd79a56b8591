"""The front end: answers what needs no torch at once, and starts the real program only when needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.command_line import help as help_pages
from experiments.messages.errors import UserMistake
from experiments.messages.text import did_you_mean, say
from experiments.options.names import find_config
from experiments.options.verbs import DEMO, TRAINER_VERBS, VERBS
from experiments.runs.find import find_run
from experiments.version import VERSION


def main(args: Sequence[str] | None = None) -> int:
    """Run one litlab command and return its exit code: 0 done, 1 failed, 2 the user's mistake, 130 interrupted."""
    words = list(sys.argv[1:] if args is None else args)
    try:
        return _dispatch(words)
    except UserMistake as mistake:
        sentence = f"litlab: {mistake}"
        if _alone() or _first_to_say():
            say(sentence)
        return 2
    except KeyboardInterrupt:  # while the program is still being read in
        say("litlab: stopped by Ctrl-C.")
        return 130
    except BrokenPipeError:  # `litlab list | head`
        sys.stderr.close()
        return 0


def _alone() -> bool:
    """Whether no launcher has started several processes, which would all say the same."""
    return not {"TORCHELASTIC_RUN_ID", "SLURM_STEP_ID"} & os.environ.keys()


def _first_to_say() -> bool:
    from experiments.machine.processes import first_to_say

    return first_to_say()


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(help_pages.overview())
        return 0
    verb, rest = words[0], words[1:]
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserMistake("the working folder has been removed; go to one that is there, by `cd FOLDER`.") from None
    if verb in ("--version", "-V"):
        print(f"litlab {VERSION}")
        return 0
    if verb in ("-c", "--config") or verb.startswith("--config="):
        raise UserMistake("the command comes first, then its config: `litlab fit --config FILE`.")
    if verb.startswith("-"):
        raise UserMistake(f"'{verb}' needs a command before it: `litlab fit CONFIG {verb} ...`. `litlab` lists all.")
    if verb not in VERBS:
        raise UserMistake(f"'{verb}' is not a command.{did_you_mean(verb, VERBS)} `litlab` lists all.")
    if "-h" in rest or "--help" in rest:
        print(help_pages.of_verb(verb))
        return 0
    if verb in (*TRAINER_VERBS, "data"):
        return _start(verb, rest)
    return _light(verb)(rest)


def _light(verb: str) -> Callable[[list[str]], int]:
    """Commands that are small modules of their own, imported when asked for."""
    if verb == "list":
        from experiments.commands.list import main as run
    elif verb == "board":
        from experiments.commands.board import main as run
    elif verb == "completion":
        from experiments.commands.completion import main as run
    else:
        from experiments.commands.info import main as run
    return run


def _start(verb: str, words: list[str]) -> int:
    """Turn the short forms into LightningCLI's own, then import Lightning."""
    leading = []
    if verb == "rerun" and "--check" in words:  # it may stand before the run
        words = [*(word for word in words if word != "--check"), "--check"]
    while words and not words[0].startswith("-"):
        leading.append(words.pop(0))
    words = _config_names(words)
    help_only = "--help-all" in words or any(word.partition("=")[0].endswith(".help") for word in words)
    run = None
    if verb in ("fit", "data"):
        if not leading and not any(_is_config(word) for word in words) and not help_only:
            leading = [DEMO]
        words = [f"--config={find_config(word)}" for word in leading] + words
    elif verb in ("resume", "rerun") and not leading and not help_only:
        raise UserMistake(f"{verb}: which run? `litlab {verb} RUN`; `litlab list runs` shows all.")
    elif leading:
        if len(leading) > 1:
            raise UserMistake(f"{verb}: give one run, not {len(leading)}: {' '.join(leading)}.")
        if leading[0].endswith(".ckpt") and verb != "rerun":
            words = [f"--ckpt_path={leading[0]}", *words]
        elif "--untrained" in words and verb not in ("resume", "rerun"):
            words = [f"--config={find_config(leading[0])}", *words]
        else:
            # For a process that comes later, the newest run of that name may be another one by now.
            handed = os.environ.get("LITLAB_HANDED_SOURCE") if os.environ.get("LOCAL_RANK", "0") != "0" else None
            handed = handed if _alone() else None
            run = Path(handed) if handed else find_run(leading[0], trained=verb != "resume")
    from experiments.options.import_paths import import_rooms

    import_rooms()
    from experiments.command_line.exit_codes import run_verb

    return run_verb(verb, words, run)


def _is_config(word: str) -> bool:
    return word in ("-c", "--config") or word.startswith(("-c=", "--config="))


def _config_names(words: list[str]) -> list[str]:
    """Write every config option as `--config=PATH`, names of shipped configs resolved."""
    result, rest = [], iter(words)
    for word in rest:
        if not _is_config(word):
            result.append(word)
            continue
        value = word.partition("=")[2] if "=" in word else next(rest, "")
        if not value:
            raise UserMistake("--config needs a file or the name of a shipped config after it.")
        result.append(f"--config={find_config(value)}")
    return result

"""The front end, which imports torch only for commands that need it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.command_line import help as help_pages
from experiments.command_line.option_parser import OptionParser
from experiments.command_line.read_request import read_request, started_by_launcher
from experiments.messages.errors import DONE, FAILED, INTERRUPTED, Terminated, UserError, ending_signals, exit_code_of
from experiments.messages.formatting import did_you_mean, say
from experiments.messages.streams import lasting_streams
from experiments.options.command_table import COMMANDS
from experiments.version import VERSION


def main(args: Sequence[str] | None = None) -> int:
    """Run one litlab command and return its exit code.

    0 done, 1 failed, 2 user error, 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    with lasting_streams() as stdout:
        code = _guarded(arguments)
        stdout.close_pipe()
        if stdout.error:
            say(f"litlab: the output could not be written ({stdout.error}), so it is incomplete.")
            kind = COMMANDS[arguments[0]].kind if arguments and arguments[0] in COMMANDS else "plain"
            code = code or (FAILED if kind == "plain" else DONE)
    return code


def _guarded(arguments: list[str]) -> int:
    """Run the command; return the exit code also for errors and signals before it starts."""
    try:
        with ending_signals():
            return _run(arguments)
    except UserError as error:
        if not started_by_launcher() or _is_first_to_report():
            say(f"litlab: {error}")
        return error.exit_code
    except KeyboardInterrupt:  # while modules are being imported
        say("litlab: stopped by Ctrl-C.")
        return INTERRUPTED
    except Terminated as error:  # the same
        say(f"litlab: {error}.")
        return exit_code_of(error.number)
    except BrokenPipeError:  # as in `litlab list | head`
        return DONE


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["help"]:  # `litlab help fit` is `litlab fit --help`
        arguments = [*arguments[1:2], "--help"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_pages.overview())
        return DONE
    name, rest = arguments[0], arguments[1:]
    _check_working_folder()
    if name in ("--version", "-V"):
        print(f"litlab {VERSION}")
        return DONE
    if name in ("-c", "--config") or name.startswith("--config="):
        raise UserError(f"the command comes first, got {name}. Use `litlab fit --config FILE`.")
    if name.startswith("-"):
        raise UserError(f"'{name}' needs a command before it: `litlab fit CONFIG {name} ...`. `litlab` lists all.")
    if name not in COMMANDS:
        raise UserError(f"'{name}' is not a command.{did_you_mean(name, COMMANDS)} `litlab` lists all.")
    command = COMMANDS[name]
    if command.kind == "plain":
        parser = OptionParser(command)
        command.module.add_options(parser)
        code: int = command.module.run(parser.parse_args(rest))
        return code
    if "-h" in rest or "--help" in rest:
        print(help_pages.page(command))
        return DONE
    request = read_request(command, rest)
    from experiments.options.import_paths import import_packages

    import_packages()
    from experiments.command_line.exit_codes import run_command

    return run_command(request)


def _check_working_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the working folder was deleted. Change to an existing folder: `cd FOLDER`.") from None


def _is_first_to_report() -> bool:
    from experiments.machine.processes import first_to_report

    return first_to_report()

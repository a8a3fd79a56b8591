"""Runs a command with a model and data; maps each error to an exit code, a message and its effect on the run folder."""

from __future__ import annotations

import errno
import re
import shlex
import traceback
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path

from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from callbacks import Stopped, TrainingFailed
from experiments.command_line.lightning_cli import LitlabCLI
from experiments.commands.trainer_command import TrainerCommand, make_command
from experiments.machine.processes import end_others, first_to_report
from experiments.messages.errors import (
    DONE,
    FAILED,
    INTERRUPTED,
    TERMINATED,
    USER_ERROR,
    FailedElsewhere,
    LitlabError,
    Terminated,
    exit_code_of,
)
from experiments.messages.formatting import one_line, say, shown
from experiments.messages.library_noise import quiet_libraries
from experiments.messages.out_of_memory import advice, find_out_of_memory
from experiments.messages.users_code import users_line
from experiments.options.catalog import PACKAGES
from experiments.options.import_paths import working_folder_importable
from experiments.options.request import Request
from lit_models.base.one_sample import one_sample_error

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Report:
    """Exit code and messages for an error."""

    code: int
    sentence: str = ""  # printed after `litlab:`
    last: str = ""  # the last line: "folder" (location of the files), "resume" (command that continues) or "" (none)
    unexpected: bool = False  # prints the traceback


_UNEXPECTED = Report(FAILED, last="folder", unexpected=True)


def run_command(request: Request) -> int:
    """Run a command and return its exit code; print the traceback of a user error only with `--debug`."""
    quiet_libraries(request.debug)
    command: TrainerCommand | None = None
    try:
        with working_folder_importable():
            command = make_command(request)
            return LitlabCLI(command).run()
    except BaseException as error:
        return _end(error, command, request.debug)
    finally:
        end_others(command.trainer if command is not None else None)


@singledispatch
def report(_: BaseException) -> Report:
    """Return the report for an error; the default is for types that are not registered below."""
    return _UNEXPECTED


report.register(FailedElsewhere, lambda _: Report(FAILED))
report.register(SIGTERMException, lambda _: Report(TERMINATED, "stopped by SIGTERM.", "folder"))
report.register(KeyboardInterrupt, lambda _: Report(INTERRUPTED, "stopped by Ctrl-C.", "folder"))
report.register(Terminated, lambda error: Report(exit_code_of(error.number), f"{error}.", "resume"))
report.register(MisconfigurationException, lambda error: Report(USER_ERROR, one_line(str(error), 1000)))
report.register(LitlabError, lambda error: Report(error.exit_code, one_line(str(error), 1000)))
# `litlab fit | head`
report.register(BrokenPipeError, lambda _: Report(FAILED, "stopped, because nothing reads its output.", "resume"))
report.register(TrainingFailed, lambda error: Report(FAILED, str(error), "folder"))


@report.register
def _(error: Stopped) -> Report:
    saved = "Everything is saved." if error.saved else "Its state was not saved."
    return Report(exit_code_of(error.number), f"{error}. {saved}", "resume")


@report.register
def _(error: SystemExit) -> Report:
    # Lightning turns Ctrl-C during a fit into SystemExit(1); jsonargparse ends --help and --print_config with 0.
    if isinstance(error.__context__, KeyboardInterrupt):
        return report(error.__context__)
    return Report(error.code if isinstance(error.code, int) else DONE if error.code is None else FAILED)


@report.register
def _(error: OSError) -> Report:
    if error.errno not in _DISK_ERRORS:
        return _UNEXPECTED
    where = f" ({error.filename})" if error.filename else ""
    sentence = f"disk access failed: {error.strerror}{where}. Free some space or fix the permissions, then continue."
    return Report(FAILED, sentence, "resume")


@report.register
def _(error: ValueError) -> Report:
    known = one_sample_error(error)  # from a model that is not litlab's
    return _UNEXPECTED if known is None else report(known)


@report.register
def _(error: SyntaxError) -> Report:
    path = Path(error.filename or "")
    if not path.is_file():
        return _UNEXPECTED
    sentence = f"{shown(path)}, line {error.lineno} is not valid Python ({error.msg}). Fix the syntax on that line."
    return Report(USER_ERROR, sentence)


@report.register
def _(error: ModuleNotFoundError) -> Report:
    quoted = re.search(r"Requirement '([\w-]+)", str(error))  # Lightning's message; the error has no name
    package = (quoted[1] if quoted else error.name or "").partition(".")[0]
    if not package or package in ("litlab", "experiments", *PACKAGES.values()):
        return _UNEXPECTED
    reason = one_line(str(error).partition(" Requirement ")[0]).rstrip(".")
    own_file = "" if quoted else f" If {package}.py is your own file, run litlab in the folder that contains it."
    return Report(USER_ERROR, f"{reason}. To install it, run `pip install {package}`.{own_file}")


def _end(error: BaseException, command: TrainerCommand | None, debug: bool) -> int:
    """Print the report for an error, remove the run folder if nothing was trained, and return the exit code."""
    found = report(error)
    trainer, data = (command.trainer, command.data) if command is not None else (None, None)
    if command is not None and (found.last != "resume" or isinstance(error, Terminated)):
        command.discard_empty_run(getattr(error, "owns_folder", True))
    out_of_memory = find_out_of_memory(error) if found.unexpected else None
    if out_of_memory is not None:
        found = Report(FAILED, advice(out_of_memory, trainer, data), "folder")
    explained = isinstance(error, (LitlabError, MisconfigurationException, TrainingFailed))
    own = users_line(error) if found.unexpected and isinstance(error, Exception) and not debug else None
    if own is not None and first_to_report() and not end_others(command.trainer if command is not None else None):
        say(f"litlab: {own[0]} in {own[1]}. Fix that line; --debug prints the whole traceback.")
        _print_last_line("folder", command)
        return FAILED
    if found.unexpected or (debug and isinstance(error, Exception) and not explained and found.last != "resume"):
        return _end_unexpected(command, debug)
    reports = trainer is None or trainer.is_global_zero if isinstance(error, Stopped) else first_to_report()
    if found.sentence and reports:
        if debug and explained:
            traceback.print_exc()
        say(f"litlab: {found.sentence}")
        _print_last_line(found.last, command)
    return found.code


def _end_unexpected(command: TrainerCommand | None, debug: bool) -> int:
    """Print the traceback of the error that is being handled, and return the exit code."""
    codes = [code for code in end_others(command.trainer if command is not None else None) if code]
    if not debug and not first_to_report():  # other processes report their lost connection
        return next((code for code in codes if code in (FAILED, USER_ERROR)), FAILED)
    if codes and not debug:
        how = f"was killed by signal {-codes[0]}" if codes[0] < 0 else f"exited with code {codes[0]}"
        say(f"litlab: another process of this run {how}, so this one exits too.")
        _print_last_line("resume", command)
        return FAILED
    traceback.print_exc()
    say("litlab: this is a bug in litlab or in your own module. Fix your module, or report the lines above.")
    _print_last_line("folder", command)
    return FAILED


def _print_last_line(last: str, command: TrainerCommand | None) -> None:
    if command is None or command.run_folder is None:
        return
    folder = command.run_folder
    if last == "resume" and folder.last.is_file():
        say(f"resume  litlab resume {shlex.quote(shown(folder.path))}")
    elif last == "folder" and folder.path.is_dir() and command.claimed is not None:
        say(f"litlab: the files written until then are in {folder.path}")

"""Running a command that needs Lightning, and what each error means: exit code, sentence, and the run folder."""

from __future__ import annotations

import errno
import re
import shlex
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path

from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from callbacks import Stopped, TrainingFailed
from experiments.command_line.lightning_cli import LitlabCLI
from experiments.commands.trainer_command import TrainerCommand, make_command
from experiments.machine.processes import end_others, first_to_report
from experiments.messages.errors import DONE, FAILED, INTERRUPTED, TERMINATED, USER_ERROR, FailedElsewhere, LitlabError
from experiments.messages.formatting import one_line, say, shown
from experiments.messages.library_noise import quiet_libraries
from experiments.messages.out_of_memory import advice, lack_within
from experiments.options.catalog import PACKAGES
from experiments.options.import_paths import working_folder_importable
from experiments.options.request import Request

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Report:
    """What an error means: the exit code, what to print after `litlab:`, and the last line.

    `last` is "folder" (where the files are), "resume" (the command that continues) or "" (nothing). A `fault` prints
    its traceback.
    """

    code: int
    sentence: str = ""
    last: str = ""
    fault: bool = False


def run_command(request: Request) -> int:
    """Run a command and return its exit code; a user's error never ends in a traceback unless `--debug` asks for it."""
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
    """Return what an error means; this is the case of all that no registered type below covers."""
    return Report(FAILED, fault=True, last="folder")


report.register(FailedElsewhere, lambda _: Report(FAILED))
report.register(SIGTERMException, lambda _: Report(TERMINATED, "stopped by SIGTERM.", "folder"))
report.register(KeyboardInterrupt, lambda _: Report(INTERRUPTED, "stopped by Ctrl-C.", "folder"))
report.register(MisconfigurationException, lambda error: Report(USER_ERROR, one_line(str(error), 1000)))
report.register(LitlabError, lambda error: Report(error.exit_code, one_line(str(error), 1000)))
# `litlab fit | head`
report.register(BrokenPipeError, lambda _: Report(FAILED, "stopped, because nothing reads its output.", "resume"))
report.register(TrainingFailed, lambda error: Report(FAILED, str(error), "folder"))


@report.register
def _(error: Stopped) -> Report:
    code = INTERRUPTED if error.number == signal.SIGINT else TERMINATED
    return Report(code, f"{error}. {'Everything is saved.' if error.saved else 'Its state was not saved.'}", "resume")


@report.register
def _(error: SystemExit) -> Report:
    # Lightning turns Ctrl-C during a fit into SystemExit(1); jsonargparse ends --help and --print_config with 0.
    if isinstance(error.__context__, KeyboardInterrupt):
        return report(error.__context__)
    return Report(error.code if isinstance(error.code, int) else DONE if error.code is None else FAILED)


@report.register
def _(error: OSError) -> Report:
    if error.errno not in _DISK:
        return Report(FAILED, fault=True, last="folder")
    where = f" ({error.filename})" if error.filename else ""
    sentence = f"disk access failed: {error.strerror}{where}. Free some space or fix the permissions, then continue."
    return Report(FAILED, sentence, "resume")


@report.register
def _(error: SyntaxError) -> Report:
    if not Path(error.filename or "").is_file():
        return Report(FAILED, fault=True, last="folder")
    place = f"{shown(Path(error.filename or ''))}, line {error.lineno}"
    return Report(USER_ERROR, f"{place} is not valid Python ({error.msg}). Fix the syntax there.")


@report.register
def _(error: ModuleNotFoundError) -> Report:
    quoted = re.search(r"Requirement '([\w-]+)", str(error))  # Lightning's own message, which carries no name
    package = (quoted[1] if quoted else error.name or "").partition(".")[0]
    if not package or package in ("litlab", "experiments", *PACKAGES.values()):
        return Report(FAILED, fault=True, last="folder")
    reason = one_line(str(error).partition(" Requirement ")[0]).rstrip(".")
    return Report(USER_ERROR, f"{reason}. Run `pip install {package}`, or remove what needs it.")


def _end(error: BaseException, command: TrainerCommand | None, debug: bool) -> int:
    """Print what the error means, remove a run folder in which nothing was trained, and return the exit code."""
    found = report(error)
    trainer = command.trainer if command is not None else None
    if isinstance(error, BrokenPipeError):
        with suppress(OSError):
            sys.stdout.close()  # else Python tries again when it exits, with a traceback
    if command is not None and found.last != "resume":
        command.discard_empty_run(getattr(error, "owns_folder", True))
    lack = lack_within(error) if found.fault else None
    if lack is not None:
        found = Report(FAILED, advice(lack, trainer, command.data if command is not None else None), "folder")
    explained = isinstance(error, (LitlabError, MisconfigurationException, TrainingFailed))
    if found.fault or (debug and isinstance(error, Exception) and not explained and found.last != "resume"):
        return _fault(command, debug)
    speaks = trainer is None or trainer.is_global_zero if isinstance(error, Stopped) else first_to_report()
    if found.sentence and speaks:
        if debug and explained:
            traceback.print_exc()
        say(f"litlab: {found.sentence}")
        _say_last(found, command)
    return found.code


def _fault(command: TrainerCommand | None, debug: bool) -> int:
    """Print the traceback of an error that nothing explains; call it while the error is handled."""
    codes = [code for code in end_others(command.trainer if command is not None else None) if code]
    if not debug and not first_to_report():  # if one process fails, the others lose their connection to it
        return next((code for code in codes if code in (FAILED, USER_ERROR)), FAILED)
    if codes and not debug:
        how = f"was killed by signal {-codes[0]}" if codes[0] < 0 else f"exited with code {codes[0]}"
        say(f"litlab: another process of this run {how}, so this one exits too.")
        _say_last(Report(FAILED, last="resume"), command)
        return FAILED
    traceback.print_exc()
    say("litlab: this is a bug in litlab or in your own module (see the lines above), not in the command.")
    _say_last(Report(FAILED, last="folder"), command)
    return FAILED


def _say_last(found: Report, command: TrainerCommand | None) -> None:
    folder = command.run_folder if command is not None else None
    if folder is None:
        return
    if found.last == "resume" and folder.last.is_file():
        say(f"resume  litlab resume {shlex.quote(shown(folder.path))}")
    elif found.last == "folder" and folder.path.is_dir() and command is not None and command.claimed is not None:
        say(f"litlab: what was done until then is in {folder.path}")

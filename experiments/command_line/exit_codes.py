"""Runs a verb that needs Lightning and turns what happens into an exit code and plain words."""

from __future__ import annotations

import errno
import re
import shlex
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from callbacks import Stopped, TrainingFailed
from experiments.command_line.lightning_cli import LitlabCLI
from experiments.machine.processes import FailedElsewhere, end_others, first_to_say
from experiments.messages.errors import UserMistake
from experiments.messages.library_noise import quiet_libraries
from experiments.messages.out_of_memory import advice, lack_within
from experiments.messages.text import one_line, say, shown
from experiments.options.import_paths import working_folder_importable
from experiments.options.names import ROOMS
from experiments.runs.folder import RunBusy
from experiments.runs.folder_guard import FolderTaken

if TYPE_CHECKING:
    from experiments.runs.folder import RunFolder

DONE, FAILED, MISTAKE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)


def run_verb(verb: str, words: list[str], run: Path | None) -> int:
    """Run a verb of the Trainer or `data`; never raises for a user's mistake unless `--debug` is among the words."""
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    quiet_libraries(debug)
    cli: LitlabCLI | None = None
    try:
        with working_folder_importable():
            cli = LitlabCLI(verb, words, run)
            cli.run()
        return DONE if cli.comparison is None or cli.comparison.agrees else FAILED
    except (MisconfigurationException, UserMistake) as mistake:
        if cli is not None and isinstance(mistake, RunBusy):
            cli.claimed = None
        _forget_empty_run(cli)
        sentence = f"litlab: {one_line(str(mistake), 1000)}"
        if first_to_say():
            if debug:
                traceback.print_exc()
            say(sentence)
        return MISTAKE
    except FailedElsewhere:
        return FAILED
    except TrainingFailed as failure:
        if cli is not None and isinstance(failure, FolderTaken):
            cli.claimed = None
        if first_to_say():
            if debug:
                traceback.print_exc()
            say(f"litlab: {failure}")
            _say_folder(cli)
        return FAILED
    except Stopped as stop:
        if cli is None or cli.trainer.is_global_zero:
            say(f"litlab: {stop}." + (" Everything is saved." if stop.saved else " Its state was not saved."))
            _say_resume(cli)
        return INTERRUPTED if stop.number == signal.SIGINT else TERMINATED
    except SIGTERMException:
        if first_to_say():
            say("litlab: stopped by SIGTERM.")
            _say_folder(cli)
        return TERMINATED
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning turns Ctrl-C during a fit into SystemExit(1); jsonargparse ends --help and --print_config with 0.
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            return stop.code if isinstance(stop.code, int) else DONE if stop.code is None else FAILED
        if first_to_say():
            say("litlab: stopped by Ctrl-C.")
            _say_folder(cli)
        return INTERRUPTED
    except BrokenPipeError:  # `litlab fit | head`
        with suppress(OSError):
            sys.stdout.close()  # else Python tries once more at its end, with a traceback
        if first_to_say():
            say("litlab: nobody reads what it prints any more, so it ends here.")
            _say_resume(cli)
        return FAILED
    except OSError as refused:
        if refused.errno not in _DISK or debug:
            return _fault(cli, debug)
        if first_to_say():
            where = f" ({refused.filename})" if refused.filename else ""
            say(
                f"litlab: the disk refuses: {refused.strerror}{where}. Free some space, or see to it that you may read "
                "and write there, then go on."
            )
            _say_resume(cli)
        return FAILED
    except Exception as error:
        if isinstance(error, SyntaxError) and Path(error.filename or "").is_file():  # a module of the user's
            _forget_empty_run(cli)
            place = f"{shown(Path(error.filename or ''))}, line {error.lineno}"
            if first_to_say():
                say(f"litlab: {place}: no valid Python ({error.msg}). Mend it there.")
            return MISTAKE
        if (package := _package_missing(error)) and not debug:
            _forget_empty_run(cli)
            if first_to_say():
                reason = one_line(str(error).partition(" Requirement ")[0]).rstrip(".")
                say(f"litlab: {reason}. Install it, by `pip install {package}`, or leave out what asks for it.")
            return MISTAKE
        lack = lack_within(error)
        if debug or lack is None:
            return _fault(cli, debug)
        if first_to_say():
            say(f"litlab: {advice(lack, getattr(cli, 'trainer', None), getattr(cli, 'datamodule', None))}")
            _say_folder(cli)
        return FAILED
    finally:
        end_others(getattr(cli, "trainer", None))


def _fault(cli: LitlabCLI | None, debug: bool) -> int:
    """Whatever is nobody's known mistake keeps its traceback; call within `except`."""
    trainer = getattr(cli, "trainer", None)
    codes = [code for code in end_others(trainer) if code]
    if not debug and not first_to_say():  # where one process fails, the others lose their connection to it
        return next((code for code in codes if code in (FAILED, MISTAKE)), FAILED)
    if codes and not debug:
        how = f"was killed by signal {-codes[0]}" if codes[0] < 0 else f"ended with code {codes[0]}"
        say(f"litlab: another process of this run {how}, so this one ends too.")
        _say_resume(cli)
        return FAILED
    traceback.print_exc()
    say("litlab: this is a fault in litlab or in your own module (see the lines above), not in the command.")
    _say_folder(cli)
    return FAILED


def _package_missing(error: Exception) -> str:
    """Name of the package that a class asked for while it ran and that is not installed, else ''."""
    if not isinstance(error, ModuleNotFoundError):
        return ""
    quoted = re.search(r"Requirement '([\w-]+)", str(error))  # Lightning's own words; they carry no name
    package = (quoted[1] if quoted else error.name or "").partition(".")[0]
    return "" if package in ("experiments", *ROOMS.values()) else package


def _say_resume(cli: LitlabCLI | None) -> None:
    plan = getattr(cli, "plan", None)
    folder = plan.folder if plan is not None else None
    if folder is not None and folder.last.is_file():
        say(f"resume  litlab resume {shlex.quote(shown(folder.path))}")


def _folder(cli: LitlabCLI | None) -> RunFolder | None:
    return cli.claimed if cli is not None else None


def _say_folder(cli: LitlabCLI | None) -> None:
    _forget_empty_run(cli)
    folder = _folder(cli)
    if folder is not None and folder.path.is_dir():
        say(f"litlab: what was done until then is in {folder.path}")


def _forget_empty_run(cli: LitlabCLI | None) -> None:
    """A mistake found after the folder was made, but before anything was trained, leaves nothing behind."""
    folder = _folder(cli)
    if folder is not None:
        folder.discard_if_untrained()

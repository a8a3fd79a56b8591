"""Errors of commands with their exit codes and their effect on the run folder. Does not import torch.

Exception
├── LitlabError                exit code 1, prints its message
│   ├── UserError              2   the user can fix it; nothing was trained
│   │   └── RunBusy            2   another process trains in the folder; the folder does not change
│   ├── RunLost                1   the folder was deleted or belongs to another run; the folder does not change
│   └── FailedElsewhere        1   another process of the run has printed the reason; prints nothing
├── callbacks.TrainingFailed   1   for example a loss that is NaN; the run folder remains
├── callbacks.Stopped        130   Ctrl-C, or 143 for SIGTERM; `litlab resume` continues from the checkpoint
├── Terminated               143   SIGTERM or SIGUSR1 outside of training; 129 for SIGHUP
└── MisconfigurationException  2   Lightning's error, which the other packages raise; treated as a UserError
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

DONE, FAILED, USER_ERROR, INTERRUPTED, TERMINATED, HUNG_UP = 0, 1, 2, 130, 143, 129


class Terminated(BaseException):
    """A signal that ends the command; raised by its handler, which `ending_signals` sets."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")


def exit_code_of(number: int) -> int:
    """Return the exit code of a command that a signal stopped."""
    names = {"SIGINT": INTERRUPTED, "SIGHUP": HUNG_UP}
    return names.get(signal.Signals(number).name, TERMINATED)


@contextmanager
def ending_signals() -> Iterator[None]:
    """Raise Terminated for SIGTERM, SIGUSR1 and SIGHUP within the block, in the main thread.

    A signal that the parent process ignores, as under `nohup`, stays ignored.
    """

    def end(number: int, *_: object) -> None:
        raise Terminated(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]
        before = {n: signal.signal(n, end) for n in numbers if signal.getsignal(n) is signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class LitlabError(Exception):
    """An error with a message for the user; `owns_folder` is False if the command must not remove the run folder."""

    exit_code = FAILED
    owns_folder = True


class UserError(LitlabError):
    """An error that the user can fix: what happened, where, and how to fix it."""

    exit_code = USER_ERROR


class RunBusy(UserError):  # noqa: N818 - describes a state
    """An error because another process trains in the run folder."""

    owns_folder = False


class RunLost(LitlabError):  # noqa: N818
    """An error because the run folder was deleted, or another run has its name."""

    owns_folder = False


class FailedElsewhere(LitlabError):  # noqa: N818
    """An error because rank 0 has failed and has printed the reason."""


@contextmanager
def as_misconfiguration() -> Iterator[None]:
    """Convert errors for the Python API: UserError to MisconfigurationException, the others to TrainingFailed."""
    try:
        yield
    except UserError as error:
        from lightning.pytorch.utilities.exceptions import MisconfigurationException

        raise MisconfigurationException(str(error)) from error
    except LitlabError as error:
        from callbacks import TrainingFailed

        raise TrainingFailed(str(error)) from error


def user_error_within(error: BaseException) -> BaseException | None:
    """Return the user error that caused another error, or None; jsonargparse wraps some errors."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    found: BaseException | None = error
    while found is not None and not isinstance(found, (UserError, MisconfigurationException)):
        found = found.__cause__ or found.__context__
    return found

"""The errors of a command, and what each means for the exit code and the run folder. Imports no torch.

Exception
├── LitlabError                exit code 1, prints its sentence
│   ├── UserError              2   the user can fix it; nothing was trained
│   │   └── RunBusy            2   another process trains in the folder, which stays untouched
│   ├── RunLost                1   the folder was deleted or taken by another run, and stays untouched
│   └── FailedElsewhere        1   another process of the run has printed the reason; prints nothing
├── callbacks.TrainingFailed   1   NaN and the like; what was done so far is kept
├── callbacks.Stopped        130   Ctrl-C, or 143 for SIGTERM; the state is saved, `litlab resume` continues
└── MisconfigurationException  2   Lightning's own, which the other packages raise; treated as a UserError
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

DONE, FAILED, USER_ERROR, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


class LitlabError(Exception):
    """An error whose message is one sentence for the user; `owns_folder` is False if the run folder is not its own."""

    exit_code = FAILED
    owns_folder = True


class UserError(LitlabError):
    """An error that the user can fix: what happened, where, and how to fix it."""

    exit_code = USER_ERROR


class RunBusy(UserError):  # noqa: N818 - a state, not a mistake in the code
    """Another process trains in this run folder."""

    owns_folder = False


class RunLost(LitlabError):  # noqa: N818
    """The run folder was deleted, or another run has its name now."""

    owns_folder = False


class FailedElsewhere(LitlabError):  # noqa: N818
    """The process that decides for all of a run has failed and has printed why."""


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
    """Return the user error that another error was raised from, or None; jsonargparse wraps some."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, (UserError, MisconfigurationException)):
        seen = seen.__cause__ or seen.__context__
    return seen

"""The user's mistake, told in one sentence; usable before Lightning is imported."""

from __future__ import annotations


class UserMistake(Exception):  # noqa: N818 - a mistake is what it is
    """Found by the torch-free front end; ends with exit code 2 like Lightning's MisconfigurationException."""


def mistake_within(error: BaseException) -> BaseException | None:
    """The MisconfigurationException that another error was raised from, if any; jsonargparse wraps some."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, MisconfigurationException):
        seen = seen.__cause__ or seen.__context__
    return seen

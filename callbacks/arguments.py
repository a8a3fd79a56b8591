"""Check of arguments that callbacks share."""

from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException


def require(allowed: bool, argument: str, wanted: str, value: Any) -> None:
    """Raise MisconfigurationException naming the argument, what it must be and its value, unless `allowed`."""
    if not allowed:
        raise MisconfigurationException(f"{argument} must be {wanted}, got {value!r}.")

"""Check of the arguments of callbacks."""

from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException


def require(allowed: bool, argument: str, requirement: str, value: Any) -> None:
    """Raise MisconfigurationException unless `allowed`; `argument` is `Callback.argument` or a run option."""
    if not allowed:
        place = "in trainer.callbacks" if "." in argument else f"by --{argument}"
        raise MisconfigurationException(f"{argument} must be {requirement}, got {value!r}. Set another value {place}.")

"""Distinction between callbacks that may change training and those that only observe it."""

from contextlib import suppress
from importlib import import_module
from typing import Any

# Observers of Lightning. Classes of litlab and of users declare it in the class attribute `changes_training`.
_LIGHTNING_OBSERVERS = ("DeviceStatsMonitor", "LearningRateMonitor", "RichProgressBar", "Timer", "TQDMProgressBar")


def changing_callbacks(entries: Any) -> list[Any]:
    """Return the entries of `trainer.callbacks` in a config whose classes may change training."""
    listed = entries if isinstance(entries, list) else [entries] if entries else []
    return [entry for entry in listed if _may_change(_class_of(entry))]


def how_to_declare(before: Any, after: Any) -> str:
    """Return the advice to set `changes_training`, for the user's own callbacks that differ between two configs.

    The text is empty if there are none, or if all of them have the attribute.
    """
    old, new = changing_callbacks(before), changing_callbacks(after)
    differing = [_class_of(entry) for entry in [*old, *new] if entry not in old or entry not in new]
    users = {cls for cls in differing if cls and cls.__module__.partition(".")[0] not in ("callbacks", "lightning")}
    names = " and ".join(sorted(cls.__name__ for cls in users if not hasattr(cls, "changes_training")))
    return f" If {names} only observes training, add `changes_training = False` to the class." if names else ""


def _may_change(cls: Any) -> bool:
    observes = getattr(cls, "__module__", "").startswith("lightning.") and cls.__name__ in _LIGHTNING_OBSERVERS
    return not observes and bool(getattr(cls, "changes_training", True))


def _class_of(entry: Any) -> Any:
    """Return the class of a config entry, or None if it cannot be imported; short names are of litlab or Lightning."""
    path, _, name = str(entry.get("class_path")).rpartition(".")
    for module in [path] if path else ["callbacks", "lightning.pytorch.callbacks"]:
        with suppress(ImportError, AttributeError):
            return getattr(import_module(module), name)
    return None

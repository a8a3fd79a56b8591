"""Tell callbacks that may change training from those that only observe it."""

from contextlib import suppress
from importlib import import_module
from typing import Any

# Lightning's observers. A class of litlab or of a user states it by the class attribute `changes_training`.
_LIGHTNING_OBSERVERS = ("DeviceStatsMonitor", "LearningRateMonitor", "RichProgressBar", "Timer", "TQDMProgressBar")


def changing_callbacks(entries: Any) -> list[Any]:
    """Return the entries of `trainer.callbacks` in a config whose classes may change training."""
    every = entries if isinstance(entries, list) else [entries] if entries else []
    return [entry for entry in every if _may_change(_class_of(entry))]


def how_to_declare(before: Any, after: Any) -> str:
    """Return a sentence on `changes_training` if the user's own callbacks differ between two configs, else ''."""
    old, new = changing_callbacks(before), changing_callbacks(after)
    differing = [_class_of(entry) for entry in [*old, *new] if entry not in old or entry not in new]
    own = {cls for cls in differing if cls and cls.__module__.partition(".")[0] not in ("callbacks", "lightning")}
    what = " and ".join(sorted(cls.__name__ for cls in own if not hasattr(cls, "changes_training")))
    return f" If {what} only observes training, add `changes_training = False` to the class." if what else ""


def _may_change(cls: Any) -> bool:
    observes = getattr(cls, "__module__", "").startswith("lightning.") and cls.__name__ in _LIGHTNING_OBSERVERS
    return not observes and bool(getattr(cls, "changes_training", True))


def _class_of(entry: Any) -> Any:
    """Return the class of a config entry, None if it cannot be imported. Short names are litlab's or Lightning's."""
    module, _, name = str(entry.get("class_path")).rpartition(".")
    for home in [module] if module else ["callbacks", "lightning.pytorch.callbacks"]:
        with suppress(ImportError, AttributeError):
            return getattr(import_module(home), name)
    return None

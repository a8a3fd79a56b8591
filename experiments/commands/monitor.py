"""The metric that decides the best epoch, and whether a lower or a higher value is better."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from lightning.pytorch import LightningModule

from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean, say
from experiments.options.run_options import RunOptions

_HIGHER_IS_BETTER = ("acc", "top", "precision", "recall", "f1", "auroc", "r2")
_LOWER_IS_BETTER = ("loss", "mae", "mse")


def with_monitor(options: RunOptions, model: LightningModule, has_validation: bool) -> RunOptions:
    """Return the options with `monitor` (None if nothing is validated) and `mode` set by the model's metrics."""
    names: tuple[str, ...] | None = getattr(model, "metric_names", None)
    monitor = options.monitor
    if monitor is None and names:
        monitor = "val/acc" if "val/acc" in names else "val/loss"
    elif monitor is not None and names:
        # Every model of litlab also logs the same metrics of the train split, and these.
        known = [*names, *(name.replace("val/", "train/") for name in names), "gap/loss", "train/l1", "train/l2"]
        if monitor not in known:
            raise UserError(
                f"monitor: {type(model).__name__} does not log '{monitor}'.{did_you_mean(monitor, known)} "
                f"Set --monitor to one of {', '.join(known)}."
            )
    if options.patience is not None and monitor is None:
        raise UserError("patience: early stopping needs a metric to monitor. Set --monitor NAME.")
    if not has_validation and monitor is not None and monitor.startswith("val/"):
        if options.patience is not None:
            raise UserError(
                f"patience: early stopping monitors {monitor}, and this run has no validation split. "
                "Set --data.val_split, or --patience null."
            )
        monitor = None
    return replace(options, monitor=monitor, mode=_mode(monitor, options.mode))


def better(monitor: str | None) -> Literal["min", "max"]:
    """Return "max" if a higher value of the metric is better by its name, such as an accuracy, else "min"."""
    name = (monitor or "").rpartition("/")[2]
    return "max" if name.startswith(_HIGHER_IS_BETTER) else "min"


def _mode(monitor: str | None, asked: Literal["min", "max"] | None) -> Literal["min", "max"]:
    """Return the user's mode; replace it with a message if it contradicts a metric that is known by name."""
    known = (monitor or "").rpartition("/")[2].startswith((*_HIGHER_IS_BETTER, *_LOWER_IS_BETTER))
    if asked is not None and known and asked != better(monitor):
        say(f"mode: {asked} does not fit {monitor}; using {better(monitor)}.")
        return better(monitor)
    return asked or better(monitor)

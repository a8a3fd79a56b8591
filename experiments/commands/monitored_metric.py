"""The metric that decides the best epoch, and whether a lower or a higher value of a metric is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule
from torchmetrics import Metric, MetricCollection

from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean, say
from experiments.options.run_options import RunOptions
from lit_models import LitTask

Mode = Literal["min", "max"]
_COMPARED = {"min": "lower", "max": "higher"}


def with_monitor(options: RunOptions, model: LightningModule, has_validation: bool) -> RunOptions:
    """Return the options with `monitor` (None if nothing is validated) and its `mode`; raise an error if unknown."""
    monitor, logged = options.monitor, _logged(model)
    if monitor is None and logged:
        monitor = "val/acc" if "val/acc" in logged else "val/loss"
    elif monitor is not None and logged and monitor not in logged and (options.mode is None or _logs_no_other(model)):
        raise UserError(
            f"monitor: {type(model).__name__} does not log '{monitor}'.{did_you_mean(monitor, logged)} "
            f"Set --monitor to one of {', '.join(logged)}."
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
    if monitor is None:
        return replace(options, monitor=None)
    known = direction(model, monitor)
    if problem := _contradiction(monitor, options.mode or known, known):
        raise UserError(f"{problem} Remove --mode, or set --mode {known}.")
    if (mode := options.mode or known) is None:
        raise UserError(f"monitor: {_unknown(model, monitor)} Set --mode min or --mode max.")
    return replace(options, monitor=monitor, mode=mode)


def direction(model: LightningModule, name: str) -> Mode | None:
    """Return "max" if higher values of a logged metric are better, "min" if lower ones are, None if unknown.

    A module that is not one of litlab's logs the torchmetrics object `self.val_iou` as `val_iou` or `val/iou`.
    """
    if isinstance(model, LitTask):
        return model.direction(name)
    metrics = {path.replace(".", "_"): child for path, child in model.named_modules() if isinstance(child, Metric)}
    for collection in model.modules():
        if isinstance(collection, MetricCollection):
            metrics |= {path.replace("/", "_"): metric for path, metric in collection.items(copy_state=False)}
    higher = getattr(metrics.get(name.replace("/", "_")), "higher_is_better", None)
    return None if higher is None else "max" if higher else "min"


def check_callbacks(
    callbacks: Iterable[Callback],
    options: RunOptions,
    model: LightningModule,
    without_mode: Iterable[str] = (),
    resumed: bool = False,
) -> None:
    """Check metric and direction of each callback that monitors a metric, such as EarlyStopping.

    The `mode` of these callbacks defaults to min. `without_mode` contains the metrics that callbacks of the config
    monitor without an explicit mode. Problems raise an error, but are only printed for a resumed run, since callbacks
    cannot change during a run.
    """
    callbacks = list(callbacks)
    # Other callbacks may log metrics, as AveragedViews does; their names are checked after the sanity check.
    others = not _logs_no_other(model) or any(not hasattr(callback, "monitor") for callback in callbacks)
    logged = [] if others else _logged(model)
    for callback in callbacks:
        attributes: Any = callback
        monitor, mode = getattr(attributes, "monitor", None), getattr(attributes, "mode", None)
        if not isinstance(monitor, str) or mode not in _COMPARED:
            continue
        name = type(callback).__name__
        problem, remedy = _callback_problem(monitor, mode, options, model, logged, monitor in without_mode)
        if problem and not resumed:
            raise UserError(f"{name}: {problem} {remedy}")
        if problem:
            say(f"{name}: {problem} The run continues with {mode}.")
        elif direction(model, monitor) is None and monitor != options.monitor:
            say(f"{name}: a {_COMPARED[mode]} {monitor} is better (mode: {mode}).")


def _callback_problem(
    monitor: str, mode: Mode, options: RunOptions, model: LightningModule, logged: list[str], default: bool
) -> tuple[str, str]:
    """Return what is wrong, and what to do; two empty texts if nothing is."""
    if logged and monitor not in logged:
        problem = f"{type(model).__name__} does not log '{monitor}'.{did_you_mean(monitor, logged)}"
        return problem, f"Set monitor to one of {', '.join(logged)}."
    known = direction(model, monitor) or (options.mode if monitor == options.monitor else None)
    if known is None and default:
        return _unknown(model, monitor), "Set mode: min or mode: max next to monitor."
    return _contradiction(monitor, mode, known), f"Set mode: {known}."


def _logged(model: LightningModule) -> list[str]:
    """Return the names of all metrics that a model of litlab logs; empty for other modules."""
    names: tuple[str, ...] = getattr(model, "metric_names", ())
    train = [name.replace("val/", "train/") for name in names]
    return [*names, *train, "gap/loss", "train/l1", "train/l2"] if names else []


def _logs_no_other(model: LightningModule) -> bool:
    """Return True for litlab's own classes; a user's subclass may log more metrics than `_logged` returns."""
    return type(model).__module__.startswith("lit_models.")


def _contradiction(monitor: str, mode: Mode | None, known: Mode | None) -> str:
    if known is None or mode == known:
        return ""
    return f"mode must be {known}, because a {_COMPARED[known]} {monitor} is better, got {mode}."


def _unknown(model: LightningModule, monitor: str) -> str:
    return f"{type(model).__name__} does not tell whether a lower or a higher {monitor} is better."

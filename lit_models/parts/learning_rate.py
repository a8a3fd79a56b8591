"""Settings of the optimizer that a learning rate schedule overrides, and the learning rate that a search sets."""

from typing import Any

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateFinder

from lit_models.parts.optimizers import DEFAULT_OPTIMIZER, check_optimizer
from lit_models.parts.schedules import momentum_range, rebuild_schedule
from lit_models.parts.several_steps import SEARCHES
from lit_models.parts.specs import Spec, as_spec, short_form

#: Schedules that replace the optimizer's learning rate by their `max_lr`, under the names of litlab and torch.
_WITH_MAX_LR = ("onecycle", "cyclic", "onecyclelr", "cycliclr")


def check_rate(optimizer: Spec, scheduler: Spec | None, searched: bool = False) -> None:
    """Raise an error if `max_lr` of the schedule overrides a learning rate that the user set or searches.

    The default optimizer counts as not set by the user; `rate_remark` reports it. `searched` is True if
    `LearningRateFinder` sets the learning rate.
    """
    if scheduler is None:
        return
    spec, given = as_spec(scheduler, "scheduler"), as_spec(optimizer, "optimizer")["init_args"]
    name = str(spec["class_path"])
    highest = spec["init_args"].get("max_lr")
    if name.rpartition(".")[2].lower() not in _WITH_MAX_LR or highest is None:
        return
    if searched:
        raise MisconfigurationException(
            f"LearningRateFinder: {name} with max_lr {highest} would ignore the learning rate that it finds. Remove "
            "max_lr or the callback."
        )
    if "lr" in given and not _is_default(optimizer):
        fix = "optimizer.lr" if name.lower().endswith("lr") else f"max_lr and set --model.optimizer.lr {highest}"
        raise MisconfigurationException(
            f"scheduler: {name} with max_lr {highest} would ignore optimizer.lr {given['lr']}. Remove {fix}."
        )


def rate_remark(optimizer: Spec, scheduler: Spec | None) -> str:
    """Return a sentence if `max_lr` of the schedule replaces the learning rate of the default optimizer, else ''."""
    spec = as_spec(scheduler, "scheduler") if scheduler is not None else {"init_args": {}}
    highest = spec["init_args"].get("max_lr")
    if highest is None or not _is_default(optimizer):
        return ""
    return f"scheduler: max_lr {highest} replaces the optimizer's default lr {DEFAULT_OPTIMIZER['lr']}."


def _is_default(optimizer: Spec) -> bool:
    return as_spec(optimizer, "optimizer") == as_spec(DEFAULT_OPTIMIZER, "optimizer")


def momentum_remark(optimizer: Spec, scheduler: Spec | None) -> str:
    """Return a sentence if the schedule cycles a momentum that the user set, else an empty string."""
    given = as_spec(optimizer, "optimizer")["init_args"]
    name = next((name for name in ("momentum", "betas") if given.get(name)), None)
    limits = None if name is None or scheduler is None else momentum_range(scheduler, check_optimizer(optimizer))
    if limits is None:
        return ""
    return (
        f"scheduler: momentum cycles between {limits[0]} and {limits[1]}, and optimizer.{name} {given[name]} is not "
        "used. Set --model.scheduler.cycle_momentum false to keep it."
    )


class SearchedRate(pl.LightningModule):
    """Base class of tasks whose learning rate and batch size Lightning's `LearningRateFinder` and others can set."""

    optimizer_spec: Spec
    scheduler_spec: Spec | None

    @property
    def learning_rate(self) -> float:
        """Learning rate of the optimizer; setting it changes the optimizer's spec and the hyperparameters."""
        return float(check_optimizer(self.optimizer_spec).defaults["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        spec = as_spec(self.optimizer_spec, "optimizer")
        self.optimizer_spec = short_form({**spec, "init_args": {**spec["init_args"], "lr": value}}, "optimizer")
        if "optimizer" in self.hparams:
            self.hparams["optimizer"] = self.optimizer_spec

    def on_fit_start(self) -> None:
        """Build the schedule again after a search, which changed its learning rate or the steps per epoch."""
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(callback, SEARCHES) for callback in callbacks):
            if any(isinstance(c, LearningRateFinder) for c in callbacks) and len(self._groups()) > 1:
                raise MisconfigurationException(
                    f"LearningRateFinder: {type(self.trainer.optimizers[0]).__name__} has several learning rates, and "
                    "the search gave all of them the same value. Remove the callback."
                )
            if self.trainer.lr_scheduler_configs:
                rebuild_schedule(self, self.trainer)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.trainer.optimizers for group in optimizer.param_groups]

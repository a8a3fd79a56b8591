"""`steps_per_call`: several optimizer steps in one call of `training_step`.

For networks whose step takes less time than Lightning's code around it. The datamodule then gives `batches_per_call`
batches at a time. A plain loop in this module trains on all but the last of them, and Lightning trains on the last one
with all its hooks. Weights, random streams, learning rates and logged values equal those of single steps, bit for bit.
Hooks of callbacks and of the module that belong to a step run once per call.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import GradientAccumulationScheduler, LearningRateMonitor, WeightAveraging
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.optim import LBFGS

from lit_models.parts.specs import Spec, as_spec
from lit_models.parts.step_state import StepState

#: Trainer arguments that need single steps: a test of the value, and the name of the feature.
_CONFLICTS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "gradient_clip_val": (bool, "gradient clipping"),
    "accumulate_grad_batches": (lambda batches: (batches or 1) != 1, "gradient accumulation"),
    "devices": (lambda number: number > 1, "several devices"),
    "precision": (lambda precision: str(precision).startswith("16"), "a scaled loss"),
    "limit_train_batches": (lambda limit: limit is not None and repr(limit) != "1.0", "a part of the batches"),
    "overfit_batches": (bool, "a part of the batches"),
    "check_val_every_n_epoch": (lambda epochs: epochs is None, "validation that ignores epochs"),
}
_LBFGS = "LBFGS, which evaluates each batch many times"


def set_steps_per_call(
    steps: int, model: pl.LightningModule, data: pl.LightningDataModule, options: Mapping[str, Any]
) -> None:
    """Set the mode on a model and its data before a fit, or raise an error that names what needs single steps.

    `options` are arguments of the Trainer, with `devices` as the number of processes.
    """
    if steps == 1 and getattr(model, "steps_per_call", 1) == 1:
        return
    for component, attribute, base in (
        (model, "steps_per_call", "LitTask"),
        (data, "batches_per_call", "LitDataModule"),
    ):
        if not hasattr(component, attribute):
            raise _conflict(steps, f"{type(component).__name__}, which does not derive from {base}")
    if steps > 1:
        _check_options(steps, options)
    model.run_several_steps(steps)  # type: ignore[operator]
    data.batches_per_call = steps  # type: ignore[attr-defined]


class StepsPerCall(pl.LightningModule, ABC):
    """Base class of tasks with the hooks of the mode; with 1 step per call they do nothing."""

    #: optimizer steps per call of `training_step`; set by `run_several_steps`
    steps_per_call: int = 1
    optimizer_spec: Spec
    _step_state: StepState
    _interval: int | None = None  # the user's `val_check_interval`, in batches

    @abstractmethod
    def losses(self, batch: Any, count: bool = True) -> tuple[Tensor, Tensor]:
        """Return the data loss of a training batch and the objective; `count=False` leaves the metrics unchanged."""

    def run_several_steps(self, n: int) -> None:
        """Take up to `n` batches and as many optimizer steps per call of `training_step`; 1 turns the mode off.

        Call it before a fit, and set `batches_per_call = n` on the datamodule. The fit raises an error for gradient
        clipping, gradient accumulation, several devices and whatever else needs single steps.
        """
        if n < 1:
            raise MisconfigurationException(
                f"steps_per_call must be a positive integer, got {n}. Set --steps_per_call 1 for single steps."
            )
        if n > 1 and as_spec(self.optimizer_spec)["class_path"].lower().endswith("lbfgs"):
            raise _conflict(n, _LBFGS)
        self.steps_per_call = n

    def setup(self, stage: str) -> None:
        """Raise an error for what needs single steps; convert `val_check_interval` from batches to calls."""
        trainer, steps = self.trainer, self.steps_per_call
        if steps == 1 or stage != "fit":
            return
        options = {name: getattr(trainer, name) for name in (*_CONFLICTS, "fast_dev_run") if name != "devices"}
        _check_options(steps, {**options, "devices": trainer.world_size})
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, (GradientAccumulationScheduler, WeightAveraging)):
                raise _conflict(steps, f"the callback {type(callback).__name__}")
        if not isinstance(trainer.strategy, SingleDeviceStrategy):
            raise _conflict(steps, "a strategy for several devices (trainer.strategy)")
        interval = trainer.val_check_interval
        if isinstance(interval, int) and not isinstance(interval, bool):
            self._check_interval(interval, interval)
            self._interval = interval
            trainer.val_check_interval = interval // steps

    def _check_interval(self, interval: float, batches: int) -> None:
        steps = self.steps_per_call
        if batches % steps:
            raise MisconfigurationException(
                f"val_check_interval must be a multiple of steps_per_call ({steps}), got {interval}, which is "
                f"{batches} batches. Set --trainer.val_check_interval {max(1, round(batches / steps)) * steps}."
            )

    def on_train_start(self) -> None:
        """Check the data loader and the optimizers, which exist only now."""
        trainer, steps = self.trainer, self.steps_per_call
        if steps == 1:
            return
        given = getattr(trainer.train_dataloader, "batches_per_call", 1)
        if given != steps:
            raise MisconfigurationException(
                f"batches_per_call must equal the model's steps_per_call ({steps}), got {given}. "
                f"Set batches_per_call = {steps} on the datamodule."
            )
        if any(isinstance(optimizer, LBFGS) for optimizer in trainer.optimizers):
            raise _conflict(steps, _LBFGS)
        interval = trainer.val_check_interval
        if isinstance(interval, float) and interval < 1.0:
            self._check_interval(interval, int(batches_per_epoch(trainer) * interval))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.steps_per_call > 1:
            self._train_on_all_but_last(batch, batch_idx)

    def teardown(self, stage: str) -> None:
        if self._interval is not None:
            self.trainer.val_check_interval, self._interval = self._interval, None

    def _train_on_all_but_last(self, batches: Collection[Any], batch_idx: int) -> None:
        """Train on all batches but the last, which `training_step` takes; `max_steps` may end the call earlier."""
        trainer, state = self.trainer, self._step_state
        first_step = trainer.global_step
        (optimizer,) = trainer.optimizers
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs if config.interval == "step"]
        loop = trainer.fit_loop.epoch_loop
        last = len(batches) - 1
        if 0 < trainer.max_steps < first_step + len(batches):
            last = trainer.max_steps - first_step - 1
            # The epoch is incomplete and not validated, even if these are its last batches.
            loop.batch_progress.is_last_batch = False
            trainer.val_check_batch = float("inf")
        step_count = loop.automatic_optimization.optim_progress.optimizer.step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        counted, state.logged = 0, None
        for index, batch in enumerate(batches):
            batch = trainer.precision_plugin.convert_input(batch)  # Lightning converts no batch inside a collection
            due = bool(every) and (first_step + index + 1) % every == 0
            if due and index:
                _count_steps(trainer, index - counted)
                counted = index
                _log_learning_rates(self, batch, batch_idx)
            if index == last:
                state.last = batch
                break
            with trainer.precision_plugin.train_step_context():
                loss, objective = self.losses(batch)
            optimizer.zero_grad()
            objective.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step_count.increment_ready()
            step_count.increment_completed()
            for schedule in schedules:
                self.lr_scheduler_step(schedule, None)
            if due:
                state.logged = loss.detach()
                metrics = {"train/loss_step": float(state.logged), "epoch": trainer.current_epoch}
                for logger in trainer.loggers:
                    logger.log_metrics(metrics, step=first_step + index)
                    logger.save()
            del batch  # free its memory before the next one is made
        _count_steps(trainer, last - counted)


def batches_per_epoch(trainer: pl.Trainer) -> float:
    """Return the batches of an epoch, where `num_training_batches` counts calls."""
    calls: float = trainer.num_training_batches
    several = getattr(trainer.lightning_module, "steps_per_call", 1) > 1 and calls != float("inf")
    return len(trainer.train_dataloader.batches) if several else calls  # type: ignore[union-attr]


def _conflict(steps: int, feature: str) -> MisconfigurationException:
    return MisconfigurationException(
        f"steps_per_call must be 1 with {feature}, got {steps}. Remove --steps_per_call or what conflicts with it."
    )


def _check_options(steps: int, options: Mapping[str, Any]) -> None:
    unused = ("limit_train_batches", "overfit_batches") if options.get("fast_dev_run") else ()
    for name, (conflicts, feature) in _CONFLICTS.items():
        if name in options and name not in unused and conflicts(options[name]):
            raise _conflict(steps, f"{feature} (trainer.{name})")


def _count_steps(trainer: pl.Trainer, steps: int) -> None:
    """Add steps to the count that loggers use, through the loop's checkpoint hooks: Lightning counts its calls."""
    if steps:
        loop = trainer.fit_loop.epoch_loop
        loop.on_load_checkpoint({name: count + steps for name, count in loop.on_save_checkpoint().items()})


def _log_learning_rates(task: pl.LightningModule, batch: Any, batch_idx: int) -> None:
    """Call the hook in which `LearningRateMonitor` logs; Lightning calls it only once for all steps."""
    for callback in task.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, LearningRateMonitor):
            callback.on_train_batch_start(task.trainer, task, batch, batch_idx)

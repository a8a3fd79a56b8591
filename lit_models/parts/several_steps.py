"""`steps_per_call`: several optimizer steps in one call of `training_step`.

The mode suits networks whose step takes less time than Lightning's code for it. The datamodule then returns
`batches_per_call` batches at a time. A loop in this module trains on all but the last of them, and Lightning trains on
the last one with all its hooks. Weights, random numbers, learning rates and logged values are bit-equal to those of
single steps. Batch hooks of callbacks and of the module run once per call.
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

#: Trainer arguments that may need single steps: a function that returns True if they do, and the feature's name.
_CONFLICTS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "gradient_clip_val": (bool, "gradient clipping"),
    "accumulate_grad_batches": (lambda batches: (batches or 1) != 1, "gradient accumulation"),
    "devices": (lambda number: number > 1, "several devices"),
    "precision": (lambda precision: str(precision).startswith("16"), "loss scaling"),
    "limit_train_batches": (lambda limit: limit is not None and repr(limit) != "1.0", "a limited number of batches"),
    "overfit_batches": (bool, "a limited number of batches"),
    "check_val_every_n_epoch": (lambda epochs: epochs is None, "validation intervals across epochs"),
}
_LBFGS = "LBFGS, which evaluates each batch many times"


def set_steps_per_call(
    steps: int, model: pl.LightningModule, data: pl.LightningDataModule, options: Mapping[str, Any]
) -> None:
    """Set the mode on a model and its data before `fit`; raise an error if a feature needs one call per step.

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
    """Base class of tasks with the hooks of the mode, which do nothing for 1 step per call."""

    #: optimizer steps per call of `training_step`; set by `run_several_steps`
    steps_per_call: int = 1
    optimizer_spec: Spec
    _step_state: StepState
    _interval: int | None = None  # the user's `val_check_interval`, in batches

    @abstractmethod
    def losses(self, batch: Any, count: bool = True) -> tuple[Tensor, Tensor]:
        """Return the data loss and the objective of a training batch; update the metrics if `count`."""

    def run_several_steps(self, n: int) -> None:
        """Take up to `n` batches and as many optimizer steps per call of `training_step`; 1 turns the mode off.

        Call this method before `fit`, and set `batches_per_call = n` on the datamodule. `fit` raises an error for
        features that need single steps, such as gradient clipping, gradient accumulation and several devices.
        """
        if n < 1:
            raise MisconfigurationException(
                f"steps_per_call must be a positive integer, got {n}. Set --steps_per_call 1 for single steps."
            )
        if n > 1 and as_spec(self.optimizer_spec)["class_path"].lower().endswith("lbfgs"):
            raise _conflict(n, _LBFGS)
        self.steps_per_call = n

    def setup(self, stage: str) -> None:
        """Raise an error if a feature needs single steps; convert `val_check_interval` from batches to calls."""
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
        """Check the dataloader and the optimizers, which do not exist earlier."""
        trainer, steps = self.trainer, self.steps_per_call
        if steps == 1:
            return
        batches_per_call = getattr(trainer.train_dataloader, "batches_per_call", 1)
        if batches_per_call != steps:
            raise MisconfigurationException(
                f"batches_per_call must equal the model's steps_per_call ({steps}), got {batches_per_call}. "
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
            # The epoch is incomplete and has no validation, even if these are its last batches.
            loop.batch_progress.is_last_batch = False
            trainer.val_check_batch = float("inf")
        step_count = loop.automatic_optimization.optim_progress.optimizer.step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        counted, state.logged = 0, None
        for index, batch in enumerate(batches):
            batch = trainer.precision_plugin.convert_input(batch)  # Lightning does not convert batches inside a list
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
            del batch  # free its memory before the loader makes the next one
        _count_steps(trainer, last - counted)


def batches_per_epoch(trainer: pl.Trainer) -> float:
    """Return the number of batches per epoch; with several steps per call `num_training_batches` counts calls."""
    calls: float = trainer.num_training_batches
    several = getattr(trainer.lightning_module, "steps_per_call", 1) > 1 and calls != float("inf")
    return len(trainer.train_dataloader.batches) if several else calls  # type: ignore[union-attr]


def _conflict(steps: int, feature: str) -> MisconfigurationException:
    return MisconfigurationException(
        f"steps_per_call must be 1 with {feature}, got {steps}. Remove --steps_per_call or the conflicting option."
    )


def _check_options(steps: int, options: Mapping[str, Any]) -> None:
    unused = ("limit_train_batches", "overfit_batches") if options.get("fast_dev_run") else ()
    for name, (conflicts, feature) in _CONFLICTS.items():
        if name in options and name not in unused and conflicts(options[name]):
            raise _conflict(steps, f"{feature} (trainer.{name})")


def _count_steps(trainer: pl.Trainer, steps: int) -> None:
    """Add steps to the step count of loggers through the loop's checkpoint hooks, because Lightning counts calls."""
    if steps:
        loop = trainer.fit_loop.epoch_loop
        loop.on_load_checkpoint({name: count + steps for name, count in loop.on_save_checkpoint().items()})


def _log_learning_rates(task: pl.LightningModule, batch: Any, batch_idx: int) -> None:
    """Call the hook in which `LearningRateMonitor` logs; Lightning calls it only once per call of `training_step`."""
    for callback in task.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, LearningRateMonitor):
            callback.on_train_batch_start(task.trainer, task, batch, batch_idx)

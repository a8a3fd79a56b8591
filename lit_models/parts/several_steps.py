"""Several optimizer steps for each call of Lightning's, for networks that take less time than the call."""

from collections.abc import Collection
from typing import Any, Protocol

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import GradientAccumulationScheduler, LearningRateMonitor, WeightAveraging
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.optim import LBFGS


class Steps(Protocol):
    """What a model needs for this mode: the data loss of a batch, and the loss that is minimised."""

    def losses(self, batch: Any, count: bool = True) -> tuple[Tensor, Tensor]:
        """Both losses; `count` False leaves the metrics alone."""


class SeveralSteps:
    """Runs several batches: all but the last by a plain loop here, the last by Lightning with all its hooks.

    Weights, random streams, schedules, logged values and their steps are those of single calls. Hooks of callbacks
    and of the module that belong to a step are called once for all of them.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise MisconfigurationException(f"steps_per_call: {size} is not possible; give 1 (off) or more.")
        self.size = size
        self.last: Any = None
        self.logged: Tensor | None = None
        self._asked_interval: Any = None

    def check(self, trainer: pl.Trainer) -> None:
        """Refuse what looks at, or changes, each single step; `steps_per_call` batches become Lightning's unit."""
        for wrong, reason in (
            (trainer.gradient_clip_val, "gradient clipping (trainer.gradient_clip_val)"),
            (trainer.accumulate_grad_batches != 1, "accumulation (trainer.accumulate_grad_batches)"),
            (_has(trainer, GradientAccumulationScheduler), "accumulation (GradientAccumulationScheduler)"),
            (_has(trainer, WeightAveraging), "an average of the weights that is updated at each step"),
            (not isinstance(trainer.strategy, SingleDeviceStrategy), "several devices or a strategy for them"),
            (str(trainer.precision).startswith("16"), f"precision {trainer.precision}, whose loss is scaled"),
            (self._limited(trainer), "a part of the batches (trainer.limit_train_batches, trainer.overfit_batches)"),
            (trainer.check_val_every_n_epoch is None, "trainer.check_val_every_n_epoch null"),
        ):
            if wrong:
                raise MisconfigurationException(
                    f"steps_per_call: {self.size} does not go with {reason}. Leave out one of the two."
                )
        interval = trainer.val_check_interval
        if isinstance(interval, int) and not isinstance(interval, bool):
            self._check_interval(interval, interval)
            self._asked_interval = interval
            trainer.val_check_interval = interval // self.size

    def _limited(self, trainer: pl.Trainer) -> bool:
        return not trainer.fast_dev_run and (trainer.limit_train_batches != 1.0 or bool(trainer.overfit_batches))  # type: ignore[attr-defined]

    def _check_interval(self, asked: Any, batches: int) -> None:
        if batches % self.size:
            near = max(1, round(batches / self.size)) * self.size
            raise MisconfigurationException(
                f"val_check_interval: {asked} means {batches} batches, which is no multiple of steps_per_call "
                f"({self.size}). Give {near}, or another steps_per_call."
            )

    def check_start(self, trainer: pl.Trainer) -> None:
        """Refuse what is known only with the loader and the optimizer there."""
        given = getattr(trainer.train_dataloader, "batches_per_call", 1)
        if given != self.size:
            raise MisconfigurationException(
                f"steps_per_call: the model takes {self.size} batches at once, the data gives {given}; "
                f"set batches_per_call = {self.size} on the datamodule too."
            )
        if any(isinstance(optimizer, LBFGS) for optimizer in trainer.optimizers):
            raise MisconfigurationException(
                f"steps_per_call: {self.size} does not go with LBFGS, which evaluates each batch many times. "
                "Leave out one of the two."
            )
        interval = trainer.val_check_interval
        if isinstance(interval, float) and interval < 1.0:
            self._check_interval(interval, int(batches_per_epoch(trainer) * interval))

    def restore(self, trainer: pl.Trainer) -> None:
        """Give the trainer its own setting back."""
        if self._asked_interval is not None:
            trainer.val_check_interval, self._asked_interval = self._asked_interval, None

    def run(self, task: pl.LightningModule, model: Steps, batches: Collection[Any], batch_idx: int) -> None:
        """Step on all batches but the last, which is kept for `training_step`; `max_steps` may cut them short."""
        trainer = task.trainer
        step = trainer.global_step
        (optimizer,) = trainer.optimizers
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs if config.interval == "step"]
        loop = trainer.fit_loop.epoch_loop
        last = len(batches) - 1
        if 0 < trainer.max_steps < step + len(batches):
            last = trainer.max_steps - step - 1
            # The epoch stays unfinished, and is not validated, also where these were its last batches.
            loop.batch_progress.is_last_batch = False
            trainer.val_check_batch = float("inf")
        taken = loop.automatic_optimization.optim_progress.optimizer.step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        told, self.logged = 0, None
        for index, batch in enumerate(batches):
            batch = trainer.precision_plugin.convert_input(batch)  # Lightning sees only what holds them
            due = bool(every) and (step + index + 1) % every == 0
            if due and index:
                _tell(trainer, index - told)
                told = index
                _log_rates(task, batch, batch_idx)
            if index == last:
                self.last = batch
                break
            with trainer.precision_plugin.train_step_context():
                loss, objective = model.losses(batch)
            optimizer.zero_grad()
            objective.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            taken.increment_ready()
            taken.increment_completed()
            for schedule in schedules:
                task.lr_scheduler_step(schedule, None)
            if due:
                self.logged = loss.detach()
                _log(trainer, {"train/loss_step": float(self.logged)}, step + index)
            del batch  # or its memory would be taken while the next one is made
        _tell(trainer, last - told)


def batches_per_epoch(trainer: pl.Trainer) -> int:
    """Batches of an epoch where the loader gives several at a time."""
    return len(trainer.train_dataloader.batches)  # type: ignore[union-attr]


def _has(trainer: pl.Trainer, kind: type[pl.Callback]) -> bool:
    return any(isinstance(callback, kind) for callback in trainer.callbacks)  # type: ignore[attr-defined]


def _tell(trainer: pl.Trainer, steps: int) -> None:
    """Lightning counts its calls for the loggers; what it keeps in a checkpoint is the way to tell it of more steps."""
    if steps:
        loop = trainer.fit_loop.epoch_loop
        loop.on_load_checkpoint({name: count + steps for name, count in loop.on_save_checkpoint().items()})


def _log_rates(task: pl.LightningModule, batch: Any, batch_idx: int) -> None:
    """What callbacks log before a step, where Lightning does not call them."""
    for callback in task.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, LearningRateMonitor):
            callback.on_train_batch_start(task.trainer, task, batch, batch_idx)


def _log(trainer: pl.Trainer, metrics: dict[str, float], step: int) -> None:
    for logger in trainer.loggers:
        logger.log_metrics({**metrics, "epoch": trainer.current_epoch}, step=step)
        logger.save()

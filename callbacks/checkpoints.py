"""The two checkpoints of a run: `best.ckpt` and `last.ckpt`."""

import os
import time
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.types import LRSchedulerConfig

from callbacks.step_hooks import NoStepHooks
from callbacks.stop_signals import Stopped, StopSignals, agreed, was_saved
from callbacks.support import is_dry_run, is_fitting
from callbacks.whole_files import copy_whole

_VALIDATION = "val"
_SCHEDULER = "scheduler.monitor"


def unknown_monitor(monitor: str, known: Iterable[str], argument: str = "monitor") -> MisconfigurationException:
    """The sentence for a metric that nobody logs, with the names that exist."""
    names = sorted(name for name in known if not name.endswith(("_step", "_epoch")))
    close = get_close_matches(monitor, names, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    there = ", ".join(names) if names else "none"
    return MisconfigurationException(f"{argument}: the metric {monitor!r} is not logged.{guess} Logged are: {there}.")


class _RunCheckpoint(NoStepHooks, ModelCheckpoint):
    """A checkpoint of fixed name in `<default_root_dir>/checkpoints`."""

    def __init__(self, filename: str, monitor: str | None, mode: str, on_train_epoch_end: bool | None) -> None:
        super().__init__(
            filename=filename,
            monitor=monitor,
            mode=mode,
            save_top_k=1,
            auto_insert_metric_name=False,
            save_on_train_epoch_end=on_train_epoch_end,
            enable_version_counter=False,  # else a second file would be called best-v1.ckpt
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.dirpath = os.path.join(trainer.default_root_dir, "checkpoints")
        with warnings.catch_warnings():
            # A resumed run finds its own files there.
            warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
            super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """A run folder that was moved keeps its best: paths are those of now, where the file is there."""
        old, new = state_dict.get("dirpath"), self.dirpath
        best = os.path.join(str(new), os.path.basename(state_dict.get("best_model_path") or "none"))
        if old and old != new and os.path.isfile(best):
            state_dict = _moved(state_dict, str(old), str(new))
        super().load_state_dict(state_dict)


class LastCheckpoint(_RunCheckpoint):
    """The newest state from which a run can go on exactly: the last finished epoch, or a step within the next one.

    | file                  | what                          | when                                                    |
    |-----------------------|-------------------------------|---------------------------------------------------------|
    | checkpoints/last.ckpt | everything needed to train on | end of each epoch; every n steps or minutes; a stop     |

    Where `max_steps` ends the run it is written after the first step of the next epoch instead of at an epoch's
    end, from where Lightning would count wrongly, and after the last step. Within an epoch it is written between two
    optimizer steps, not where a validation follows. Stands after `BestCheckpoint` in the callback list, so that it
    holds that one's newest state.
    """

    #: tells `StopSignals` that it need not end the run itself
    stops_for_signals = True

    def __init__(self, every_n_steps: int | None = None, every_n_minutes: float | None = None) -> None:
        # A callback of its own: `save_last` of the best one would stand still at the best epoch.
        super().__init__("last", monitor=None, mode="min", on_train_epoch_end=True)
        for name, value in (("save_every_steps", every_n_steps), ("save_every_minutes", every_n_minutes)):
            if value is not None and not value > 0:
                raise MisconfigurationException(f"{name}: {value} is not possible. Give a number above 0, or null.")
        self._every_n_steps, self._every_n_minutes = every_n_steps, every_n_minutes
        self._signals = StopSignals()
        self._stepped, self.saved_step, self._saved_time, self._agreed_step = 0, 0, time.monotonic(), 0
        self._by_steps = self._watching = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        found = [callback for callback in trainer.callbacks if isinstance(callback, StopSignals)]  # type: ignore[attr-defined]
        self._signals = found[0] if found else self._signals
        self._stepped = self.saved_step = self._agreed_step = trainer.global_step
        self._saved_time = time.monotonic()
        self._by_steps = trainer.max_steps != -1
        periodic = self._every_n_steps is not None or self._every_n_minutes is not None
        self._watching = self._by_steps or periodic or trainer.world_size > 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._signals.asked is None and not self._watching:
            return  # nearly every step of nearly every run
        step = trainer.global_step
        if step == self._stepped or is_dry_run(trainer):
            return
        self._stepped = step
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return  # gradients that are being gathered are in no checkpoint
        ends = self._by_steps and step >= trainer.max_steps
        follows = _validation_follows(trainer, batch_idx)
        if not ends and (trainer.is_last_batch or follows) and not (self._by_steps and _everywhere(trainer)):
            return
        asked = self._signals.asked
        first = self._by_steps and trainer.current_epoch > 0 and batch_idx == 0
        due = ends or first or asked is not None or self._due(step)
        if trainer.world_size > 1 and not (ends or first):
            # All processes ask together, and not at every step: they wait for each other.
            if step - self._agreed_step < 10:
                return
            self._agreed_step = step
            due = bool(trainer.strategy.reduce_boolean_decision(due, all=False))
        asked = agreed(trainer, asked) if due else None
        saved = self._save(trainer, step) if due else False
        if asked is not None and not ends:
            stop = Stopped(asked, step, trainer.current_epoch, saved)
            if trainer.is_last_batch:
                raise stop
            self.on_train_batch_start = partial(_leave, stop)  # not here: the step's figures are not logged yet

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._by_steps:
            super().on_train_epoch_end(trainer, pl_module)
            self.saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.finish(trainer)
        super().on_train_end(trainer, pl_module)

    def finish(self, trainer: Trainer) -> None:
        """Save the state of a run that `max_steps` could have ended, but something else did."""
        self.on_train_batch_start = None
        if self._by_steps and self.saved_step != trainer.global_step and not is_dry_run(trainer):
            self._save(trainer, trainer.global_step)

    def _due(self, step: int) -> bool:
        if self._every_n_steps is not None and step - self.saved_step >= self._every_n_steps:
            return True
        minutes = (time.monotonic() - self._saved_time) / 60
        return self._every_n_minutes is not None and minutes >= self._every_n_minutes

    def _save(self, trainer: Trainer, step: int) -> bool:
        """Write the state; whether the disk took it."""
        path = self.format_checkpoint_name({})
        trainer.save_checkpoint(path, weights_only=False)
        self.best_model_path = path
        self.saved_step, self._saved_time = step, time.monotonic()
        return was_saved(trainer)


def _leave(stop: Stopped, *_: Any) -> None:
    raise stop


def _everywhere(trainer: Trainer) -> bool:
    """Whether every step is the last of its epoch or has a validation after it: then there is no better place."""
    return trainer.num_training_batches == 1 or trainer.val_check_batch == 1


class BestCheckpoint(_RunCheckpoint):
    """The epoch with the best value of `monitor`; of equal ones the earliest.

    | file                  | what                                     | when                            |
    |-----------------------|------------------------------------------|---------------------------------|
    | checkpoints/best.ckpt | the best epoch, as `last.ckpt`           | validation or epoch that is best |

    `monitor` None, or a `val/…` name in a run that never validates, means the newest epoch. A name that nobody logs
    raises MisconfigurationException: after the sanity check for a validation metric, else after the first epoch.
    """

    def __init__(self, monitor: str | None = None, mode: Literal["min", "max"] = "min") -> None:
        if mode not in ("min", "max"):
            raise MisconfigurationException(f"mode: {mode!r} is not known. Use 'min' (a loss) or 'max' (an accuracy).")
        # None: with the validation, which may come several times an epoch; other metrics exist at the epoch's end only.
        on_validation = monitor is not None and monitor.startswith(_VALIDATION)
        super().__init__("best", monitor=monitor, mode=mode, on_train_epoch_end=None if on_validation else True)
        self._asked_monitor = monitor
        self._key = super().state_key

    @property
    def state_key(self) -> str:
        """As asked for: it must not change when a run without validation falls back to the newest epoch."""
        return self._key

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.monitor = self._asked_monitor
        super().setup(trainer, pl_module, stage)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        known = trainer.callback_metrics
        for name, argument in self._monitors(trainer):
            looks_like_validation = name.startswith((_VALIDATION, "test")) or get_close_matches(name, known, cutoff=0.8)
            if known and name not in known and looks_like_validation:
                raise unknown_monitor(name, known, argument)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if sum(trainer.num_val_batches) > 0:
            return
        for name, argument in self._monitors(trainer):
            if name.startswith(_VALIDATION) and argument != "monitor":
                raise MisconfigurationException(
                    f"{argument}: {name!r} needs a validation part and this run has none. Set data.val_split above 0, "
                    f"or remove the {'early stopping' if argument.startswith('Early') else 'scheduler'}."
                )
        if self.monitor is not None and self.monitor.startswith(_VALIDATION):
            if not is_dry_run(trainer):
                trainer.print(f"No validation part: best.ckpt is the newest epoch ({self.monitor!r} is not measured).")
            self.monitor = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_fitting(trainer) and not trainer.sanity_checking:
            self._require(trainer)
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.monitor is not None and not self.monitor.startswith(_VALIDATION):
            self._require(trainer)
        self._require_schedulers(trainer)
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, LastCheckpoint):
                callback.finish(trainer)  # it may be copied below
        super().on_train_end(trainer, pl_module)
        if self.best_model_path or is_dry_run(trainer) or trainer.global_step == 0:
            return
        # Stopped before the first validation (max_steps, a long check_val_every_n_epoch).
        trainer.print(f"{self.monitor!r} was never measured: best.ckpt is the newest state.")
        self.best_model_path = self.format_checkpoint_name({})
        last = next((c.best_model_path for c in trainer.callbacks if isinstance(c, LastCheckpoint)), "")  # type: ignore[attr-defined]
        if not trainer.strategy.broadcast(os.path.isfile(last)):
            trainer.save_checkpoint(self.best_model_path, weights_only=False)
            return
        # A copy: by now the trainer counts the epoch as over, and a state saved here would name the next one.
        if trainer.is_global_zero:
            copy_whole(last, self.best_model_path)
        trainer.strategy.barrier("best.ckpt")

    def _require(self, trainer: Trainer) -> None:
        # A validation metric may be missing at the end of a train epoch, a train metric during a validation.
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            return
        if trainer.validating and not self.monitor.startswith(_VALIDATION):
            return
        raise unknown_monitor(self.monitor, trainer.callback_metrics)

    def _require_schedulers(self, trainer: Trainer) -> None:
        # Lightning steps them right after this hook, at the end of a whole epoch, and knows no better words.
        if not trainer.is_last_batch:
            return
        for config in _watching(trainer):
            due = config.interval == "epoch" and (trainer.current_epoch + 1) % config.frequency == 0
            if due and config.strict and config.monitor not in trainer.callback_metrics:
                raise unknown_monitor(str(config.monitor), trainer.callback_metrics, _SCHEDULER)

    def _monitors(self, trainer: Trainer) -> list[tuple[str, str]]:
        own = [(self.monitor, "monitor")] if self.monitor is not None else []
        stopping = [(callback.monitor, "EarlyStopping.monitor") for callback in trainer.early_stopping_callbacks]
        return own + stopping + [(str(config.monitor), _SCHEDULER) for config in _watching(trainer)]


def _watching(trainer: Trainer) -> list[LRSchedulerConfig]:
    """The schedulers that go by a metric."""
    return [config for config in trainer.lr_scheduler_configs if config.reduce_on_plateau and config.monitor]


def _moved(value: Any, old: str, new: str) -> Any:
    """All paths below the folder `old`, as values and as keys, below `new`."""
    if isinstance(value, str):
        return new + value.removeprefix(old) if value.startswith(old) else value
    if isinstance(value, dict):
        return {_moved(name, old, new): _moved(inner, old, new) for name, inner in value.items()}
    return value


def _validation_follows(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the trainer may validate right after this batch; a run that goes on from here would leave it out."""
    every = trainer.val_check_batch
    if not isinstance(every, int) or sum(trainer.num_val_batches) == 0:
        return False
    batches = batch_idx if trainer.check_val_every_n_epoch is not None else trainer.fit_loop.total_batch_idx
    return (batches + 1) % every == 0

"""`best.ckpt`: the best epoch of a run."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import LRSchedulerConfig

from callbacks.checkpoints.atomic_files import copy_whole
from callbacks.checkpoints.last_checkpoint import LastCheckpoint
from callbacks.checkpoints.run_checkpoint import RunCheckpoint
from callbacks.guards.stop_signals import was_saved
from callbacks.trainer_state import is_dry_run, is_fitting

_VALIDATION = "val"
_SCHEDULER = "scheduler.monitor"


def unknown_monitor(monitor: str, known: Iterable[str], argument: str = "monitor") -> MisconfigurationException:
    """The sentence for a metric that nobody logs, with the names that exist."""
    names = sorted(name for name in known if not name.endswith(("_step", "_epoch")))
    close = get_close_matches(monitor, names, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    there = ", ".join(names) if names else "none"
    return MisconfigurationException(f"{argument}: the metric {monitor!r} is not logged.{guess} Logged are: {there}.")


class BestCheckpoint(RunCheckpoint):
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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Where somebody has removed best.ckpt, the best is chosen anew."""
        super().load_state_dict(state_dict)
        if self.best_model_path and not os.path.isfile(self.best_model_path):
            self.forget()
            rank_zero_warn("best.ckpt is not there any more: the best is chosen anew from here on.")

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
            with self._taken_back_if_refused(trainer):
                super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.monitor is not None and not self.monitor.startswith(_VALIDATION):
            self._require(trainer)
        self._require_schedulers(trainer)
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            with self._taken_back_if_refused(trainer):
                super().on_train_epoch_end(trainer, pl_module)

    @contextmanager
    def _taken_back_if_refused(self, trainer: Trainer) -> Iterator[None]:
        """Where the disk refuses the new best, the file of before stays the one to beat."""
        before = self.best_model_path, self.kth_best_model_path, self.best_model_score, dict(self.best_k_models)
        yield
        saved = self.best_model_score is not before[2]
        if saved and not trainer.strategy.broadcast(was_saved(trainer, "best.ckpt")):
            self.best_model_path, self.kth_best_model_path, self.best_model_score, self.best_k_models = before

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, LastCheckpoint):
                callback.finish(trainer)  # it may be copied below
        super().on_train_end(trainer, pl_module)
        if self.best_model_path or is_dry_run(trainer) or trainer.global_step == 0:
            return
        # Stopped before the first validation (max_steps, a long check_val_every_n_epoch), or the disk took none.
        refused = self.monitor in trainer.callback_metrics
        why = "No best epoch could be kept" if refused else f"{self.monitor!r} was never measured"
        trainer.print(f"{why}: best.ckpt is the newest state.")
        self.best_model_path = self.format_checkpoint_name({})
        last = next((c.best_model_path for c in trainer.callbacks if isinstance(c, LastCheckpoint)), "")  # type: ignore[attr-defined]
        if not trainer.strategy.broadcast(os.path.isfile(last)):
            trainer.save_checkpoint(self.best_model_path, weights_only=False)  # saves the optimizer too; loads no code
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

"""Callback for `best.ckpt`, the checkpoint of the best epoch."""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import LRSchedulerConfig

from callbacks.arguments import require
from callbacks.checkpoints.atomic_files import atomic_copy
from callbacks.checkpoints.file_names import BEST
from callbacks.checkpoints.last_checkpoint import LastCheckpoint
from callbacks.checkpoints.run_checkpoint import RunCheckpoint
from callbacks.records.best_epoch import BestEpoch, needs_validation
from callbacks.trainer_state import is_dry_run, is_fitting

_SCHEDULER = "scheduler.monitor"
_REMOVED = "best.ckpt was removed: the best epoch is chosen from the epochs that follow."


def unknown_monitor(monitor: str, known: Iterable[str], argument: str = "monitor") -> MisconfigurationException:
    """Return the error for a metric that is not logged, which lists the metrics that are."""
    names = sorted(name for name in known if not name.endswith(("_step", "_epoch")))
    close = get_close_matches(monitor, names, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    action = f"Set a logged metric: {', '.join(names)}" if names else "Log a metric in the model"
    return MisconfigurationException(f"{argument}: the metric {monitor!r} is not logged.{guess} {action}.")


class BestCheckpoint(RunCheckpoint):
    """Checkpoint of the epoch with the best value of `monitor`; of equal epochs, the earliest.

    | file                  | what                           | when                                                   |
    |-----------------------|--------------------------------|--------------------------------------------------------|
    | checkpoints/best.ckpt | the same entries as last.ckpt  | after a validation or epoch that is the best so far    |

    `best` contains the metrics of that epoch, which `HyperParameters` and `results.json` report. If `monitor` is None,
    or a `val/...` metric in a run without validation, the best epoch is the newest. A metric that is not logged raises
    MisconfigurationException: after the sanity check for a validation metric, else after the first epoch.
    """

    def __init__(self, monitor: str | None = None, mode: Literal["min", "max"] = "min") -> None:
        require(mode in ("min", "max"), "BestCheckpoint.mode", "'min' (a loss) or 'max' (an accuracy)", mode)
        super().__init__(BEST, monitor, mode)
        self.best = BestEpoch(monitor, mode)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "best": self.best.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best epoch, unless its file was removed or belongs to another run folder."""
        super().load_state_dict(state_dict)
        path, score = state_dict["best_model_path"], state_dict["best_model_score"]
        if not self.best_model_path:
            self.best.forget()
            if path and not os.path.isfile(path):
                rank_zero_warn(_REMOVED)
        elif "best" in state_dict:
            self.best.load_state_dict(state_dict["best"])
        elif score is not None and self.best.score != float(score):
            # Older checkpoints store the metrics with HyperParameters; those of another epoch are not used.
            self.best.score, self.best.metrics = float(score), {str(self.monitor): float(score)}

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        known = trainer.callback_metrics
        for name, argument in self._monitors(trainer):
            similar = name.startswith("test") or get_close_matches(name, known, cutoff=0.8)
            if known and name not in known and (needs_validation(name) or similar):
                raise unknown_monitor(name, known, argument)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.best.start(trainer):
            return
        for name, argument in self._monitors(trainer):
            if needs_validation(name) and argument != "monitor":
                raise MisconfigurationException(
                    f"{argument}: {name!r} needs a validation split. Set --data.val_split above 0, "
                    f"or remove the {'early stopping' if argument.startswith('Early') else 'scheduler'}."
                )
        if needs_validation(self.monitor) and not is_dry_run(trainer):
            trainer.print(f"No validation split: best.ckpt is the newest epoch ({self.monitor!r} is not measured).")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_fitting(trainer) or trainer.sanity_checking:
            return
        if self.best.by_validation:
            self._check_monitor(trainer)
            if not _validates_at_epoch_end(trainer):
                self._save_if_best(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.best.decisive is not None and not self.best.by_validation:
            self._check_monitor(trainer)
        self._check_schedulers(trainer)
        if not self.best.by_validation or _validates_at_epoch_end(trainer):
            self._save_if_best(trainer)

    def _save_if_best(self, trainer: Trainer) -> None:
        """Save the current epoch if it is the best so far. If this fails, the previous best epoch remains the best."""
        logged = trainer.callback_metrics
        if is_dry_run(trainer) or trainer.global_step == 0:
            return
        removed = bool(self.best_model_path) and not os.path.isfile(self.path)
        removed = trainer.strategy.broadcast(removed) if trainer.world_size > 1 else removed
        if removed:
            self.best.forget()
        if not trainer.strategy.reduce_boolean_decision(self.best.improves(logged)):
            return
        before = self.best.state_dict(), self.best_model_path, self.best_model_score
        self.best.store(logged, trainer.current_epoch, trainer.global_step)
        self.best_model_score = None if self.best.decisive is None else logged[self.best.decisive].detach().clone()
        saved = self.save(trainer)
        if removed:
            rank_zero_warn(_REMOVED)
        if not saved:
            self.best.load_state_dict(before[0])
            _, self.best_model_path, self.best_model_score = before

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        last = next((c for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint)), None)
        if last is not None:
            last.finish(trainer)  # it may be copied below
        if self.best_model_path or is_dry_run(trainer) or trainer.global_step == 0:
            return
        # Training ended before the first validation (max_steps, a long check_val_every_n_epoch), or no save succeeded.
        failed = self.best.decisive is None or self.best.decisive in trainer.callback_metrics
        reason = "no best epoch could be saved" if failed else f"{self.monitor!r} was never measured"
        trainer.print(f"best.ckpt contains the last step of training, because {reason}.")
        if last is None or not trainer.strategy.broadcast(os.path.isfile(last.path)):
            self.save(trainer)
            return
        # Copy the file: the trainer has already counted the epoch, so a checkpoint saved now would name the next one.
        self.best_model_path = self.path
        if trainer.is_global_zero:
            atomic_copy(last.path, self.path)
        trainer.strategy.barrier("best.ckpt")

    def _check_monitor(self, trainer: Trainer) -> None:
        if self.monitor is not None and self.monitor not in trainer.callback_metrics:
            raise unknown_monitor(self.monitor, trainer.callback_metrics)

    def _check_schedulers(self, trainer: Trainer) -> None:
        # Right after this hook, at the end of a complete epoch, Lightning would raise a less helpful error.
        if not trainer.is_last_batch:
            return
        for config in _plateau_schedules(trainer):
            due = config.interval == "epoch" and (trainer.current_epoch + 1) % config.frequency == 0
            if due and config.strict and config.monitor not in trainer.callback_metrics:
                raise unknown_monitor(str(config.monitor), trainer.callback_metrics, _SCHEDULER)

    def _monitors(self, trainer: Trainer) -> list[tuple[str, str]]:
        """Return each monitored metric with the argument that names it."""
        monitor = [(self.monitor, "monitor")] if self.monitor is not None else []
        stopping = [(callback.monitor, "EarlyStopping.monitor") for callback in trainer.early_stopping_callbacks]
        return monitor + stopping + [(str(config.monitor), _SCHEDULER) for config in _plateau_schedules(trainer)]


def _plateau_schedules(trainer: Trainer) -> list[LRSchedulerConfig]:
    """Return the learning rate schedules that monitor a metric."""
    return [config for config in trainer.lr_scheduler_configs if config.reduce_on_plateau and config.monitor]


def _validates_at_epoch_end(trainer: Trainer) -> bool:
    """Return True if each epoch ends with its only validation, so best.ckpt is saved when the epoch is complete."""
    return trainer.check_val_every_n_epoch == 1 and trainer.val_check_batch == trainer.num_training_batches

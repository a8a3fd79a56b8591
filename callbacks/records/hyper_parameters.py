"""Callback for the row of a run in TensorBoard's HPARAMS tab."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.checkpoints.best_checkpoint import BestCheckpoint
from callbacks.records.best_epoch import BestEpoch
from callbacks.records.flat_settings import flat_settings
from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import is_fitting, tensorboard_logger


class HyperParameters(NoStepHooks, Callback):
    """Hyperparameters of the run with its metrics at the best epoch, written once.

    | key         | what                                                                         | when       |
    |-------------|------------------------------------------------------------------------------|------------|
    | (hparams)   | model, data, batch_size, optimizer, lr, scheduler, loss, seed and others     | end of fit |
    | hp/<metric> | validation metrics of the best epoch, or train metrics without a validation  | end of fit |

    They are also written after an error or an interruption if an epoch has metrics. The best epoch is that of
    `BestCheckpoint`. In a run without it, or if `monitor` names another metric, this callback applies the same rule.
    `monitor` and `mode` then default to those of the first checkpoint callback. Without one, the newest epoch is the
    best. `settings` are added to the hyperparameters and replace those with the same name.
    """

    def __init__(
        self, monitor: str | None = None, mode: str = "min", settings: Mapping[str, Any] | None = None
    ) -> None:
        self.monitor, self.mode, self._settings = monitor, mode, dict(settings or {})
        self.best = BestEpoch(monitor, mode)
        self._decides = True
        self._written = False
        self._ended: tuple[int, int] | None = None  # index and step of an epoch that is not compared yet

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._written, self._ended = False, None
        best = next((c.best for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)), None)
        self._decides = best is None or self.monitor not in (None, best.monitor)
        if best is not None and not self._decides:
            self.best = best
            return
        monitor, mode = self.monitor, self.mode
        checkpoint = trainer.checkpoint_callback
        if monitor is None and checkpoint is not None:
            monitor, mode = getattr(checkpoint, "monitor", None), getattr(checkpoint, "mode", mode)
        self.best = BestEpoch(monitor, mode)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.best.start(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._compare_ended(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._decides and is_fitting(trainer) and not trainer.sanity_checking and self.best.by_validation:
            self.best.update(trainer.callback_metrics, trainer.current_epoch, trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._decides and not self.best.by_validation:
            # The module logs its epoch metrics after this hook.
            self._ended = trainer.current_epoch, trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if is_fitting(trainer):
            self._write(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return self.best.state_dict() if self._decides else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best epoch; older checkpoints store the one of `BestCheckpoint` here."""
        self.best.load_state_dict(state_dict)

    def _compare_ended(self, trainer: Trainer) -> None:
        if self._ended is not None:
            self.best.update(trainer.callback_metrics, *self._ended)
            self._ended = None

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._compare_ended(trainer)
        logger = tensorboard_logger(trainer)
        if logger is None or self._written or not self.best.metrics:
            return
        self._written = True
        settings = {**flat_settings(trainer, pl_module), **self._settings}
        metrics = {f"hp/{name}": value for name, value in self.best.metrics.items()}
        logger.log_hyperparams(settings, metrics, step=trainer.global_step)
        logger.save()

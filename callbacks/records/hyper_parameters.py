"""The one line of a run in TensorBoard's HPARAMS table."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.records.best_epoch import BestEpoch
from callbacks.records.flat_settings import flat_settings
from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import is_fitting, tensorboard_logger


class HyperParameters(NoStepHooks, Callback):
    """Settings of the run beside its metrics at the best epoch, written exactly once.

    | key          | what                                                                       | when       |
    |--------------|----------------------------------------------------------------------------|------------|
    | (hparams)    | model, data, batch_size, optimizer, lr, scheduler, loss, seed and the rest | end of fit |
    | hp/<metric>  | validation metrics of the best epoch (train metrics without a validation)  | end of fit |

    Also after an error or an interruption, once an epoch was measured. `monitor` and `mode` default to those of the
    first checkpoint callback; with neither, the newest epoch counts. `settings` are added and win.
    """

    def __init__(
        self, monitor: str | None = None, mode: str = "min", settings: Mapping[str, Any] | None = None
    ) -> None:
        self._monitor = monitor
        self._mode = mode
        self._settings = dict(settings or {})
        self._best = BestEpoch(monitor, mode)
        self._written = False
        self._epoch_over = False

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the best epoch so far."""
        return dict(self._best.metrics)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        monitor, mode = self._monitor, self._mode
        checkpoint = trainer.checkpoint_callback
        if monitor is None and checkpoint is not None:
            monitor, mode = getattr(checkpoint, "monitor", None), getattr(checkpoint, "mode", mode)
        self._best = BestEpoch(monitor, mode)
        self._written = self._epoch_over = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if sum(trainer.num_val_batches) == 0:
            self._best.without_validation()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_epoch(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_fitting(trainer) and not trainer.sanity_checking:
            self._best.after_validation(trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_over = True  # the module's own epoch metrics come after this hook

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if is_fitting(trainer):
            self._write(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return self._best.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best.load_state_dict(state_dict)

    def _take_epoch(self, trainer: Trainer) -> None:
        if self._epoch_over:
            self._epoch_over = False
            self._best.after_epoch(trainer.callback_metrics)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_epoch(trainer)
        logger = tensorboard_logger(trainer)
        if logger is None or self._written or not self._best.metrics:
            return
        self._written = True
        settings = {**flat_settings(trainer, pl_module), **self._settings}
        metrics = {f"hp/{name}": value for name, value in self._best.metrics.items()}
        logger.log_hyperparams(settings, metrics, step=trainer.global_step)
        logger.save()

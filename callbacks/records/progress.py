"""Callbacks for progress: a bar in a terminal, else one line per epoch."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import epoch_metrics, format_number, is_fitting

_REFRESHES_PER_SECOND = 5


def progress_bar() -> ProgressBar:
    """Return `TerminalProgress` in a terminal, `PlainProgress` for a file, a pipe or TERM=dumb. Rich obeys NO_COLOR."""
    if sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb":
        return TerminalProgress()
    return PlainProgress()


class _PrintedLines(Callback):
    """Base class that prints one line per finished epoch, validation, test or prediction."""

    changes_training = False

    def __init__(self, **bar: Any) -> None:
        super().__init__(**bar)
        self._enabled = True
        self._validated = False
        self._start_time = time.perf_counter()
        self._finished: tuple[str, str] | None = None

    def disable(self) -> None:
        """Print nothing; Lightning calls this on all ranks except 0."""
        self._enabled = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._finished = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print_epoch(trainer)
        self._validated = False
        self._start_time = time.perf_counter()
        super().on_train_epoch_start(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_start(trainer, pl_module)
        if not is_fitting(trainer):
            self._start_time = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not is_fitting(trainer):
            self._print_batches("validate", trainer.num_val_batches)
        elif not trainer.sanity_checking:
            self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        # The module logs its epoch metrics after this hook, so the line is printed when the next epoch starts.
        self._finished = (_epoch_label(trainer), self._seconds())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self._print_epoch(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self._print_epoch(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_test_start(trainer, pl_module)
        self._start_time = time.perf_counter()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_test_end(trainer, pl_module)
        self._print_batches("test", trainer.num_test_batches)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_predict_start(trainer, pl_module)
        self._start_time = time.perf_counter()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_predict_end(trainer, pl_module)
        self._print_batches("predict", trainer.num_predict_batches)

    def _print_epoch(self, trainer: Trainer) -> None:
        if self._finished is None:
            return
        label, seconds = self._finished
        self._finished = None
        prefixes = ("train", "val") if self._validated else ("train",)
        self._print(label, [metric for prefix in prefixes for metric in _format_metrics(trainer, prefix)], seconds)

    def _print_batches(self, label: str, numbers: list[int | float]) -> None:
        self._print(label, [f"{sum(numbers)} batches"], self._seconds())  # the command prints the metrics itself

    def _print(self, label: str, parts: list[str], seconds: str) -> None:
        if self._enabled:
            print("  ".join([label, *parts, seconds]), flush=True)

    def _seconds(self) -> str:
        return f"{time.perf_counter() - self._start_time:.1f} s"


class TerminalProgress(NoStepHooks, _PrintedLines, RichProgressBar):
    """Lightning's rich progress bar, replaced by a line like that of `PlainProgress` when an epoch is finished.

    The bar is updated a few times per second and at the last batch, not at every batch.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(refresh_rate=_REFRESHES_PER_SECOND, leave=False)
        self._clock = clock
        self._next = clock()

    def _due(self, batch_idx: int, batches: float) -> bool:
        now = self._clock()
        if now < self._next and batch_idx + 1 < batches:
            return False
        self._next = now + 1 / _REFRESHES_PER_SECOND
        return True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._due(batch_idx, trainer.num_training_batches):
            RichProgressBar.on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *loader: Any
    ) -> None:
        if self._due(batch_idx, self.total_val_batches_current_dataloader):
            super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, *loader)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *loader: Any
    ) -> None:
        if self._due(batch_idx, self.total_test_batches_current_dataloader):
            super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, *loader)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *loader: Any
    ) -> None:
        if self._due(batch_idx, self.total_predict_batches_current_dataloader):
            super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, *loader)

    def disable(self) -> None:
        """Show neither lines nor a bar."""
        _PrintedLines.disable(self)
        RichProgressBar.disable(self)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return only the running loss, since the lines show the metrics of the epochs."""
        items: dict[str, Any] = super().get_metrics(trainer, pl_module)
        running = {name: value for name, value in items.items() if name.endswith("loss_step")}
        return running or {name: value for name, value in items.items() if name != "v_num"}


class PlainProgress(NoStepHooks, _PrintedLines, ProgressBar):
    """One printed line per finished epoch, validation, test or prediction.

    | line                                                                    | when                                |
    |-------------------------------------------------------------------------|-------------------------------------|
    | `epoch 3/10  train/loss 0.4123  val/loss 0.3922  val/acc 0.8610  2.1 s` | end of epoch, after all its metrics |
    | `test  79 batches  0.5 s`                                               | end of test, validate, predict      |

    Validation metrics appear only for an epoch with a validation.
    """

    def enable(self) -> None:
        """Show the lines again."""
        self._enabled = True


def _format_metrics(trainer: Trainer, prefix: str) -> list[str]:
    metrics = epoch_metrics(trainer.callback_metrics, prefix)
    return [f"{name} {format_number(value)}" for name, value in metrics.items()]


def _epoch_label(trainer: Trainer) -> str:
    epoch = trainer.current_epoch + 1
    if trainer.max_steps > 0:
        return f"epoch {epoch}  step {trainer.global_step}/{trainer.max_steps}"
    return f"epoch {epoch}/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else f"epoch {epoch}"

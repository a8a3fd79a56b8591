"""Callbacks that show the progress: a bar in a terminal, else one line per epoch."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme

from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import epoch_metrics, format_number, is_fitting

_REFRESHES_PER_SECOND = 5


def progress_bar() -> ProgressBar:
    """Return `TerminalProgress` in a terminal, else `PlainProgress`, also if TERM=dumb. Rich reads NO_COLOR."""
    if sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb":
        return TerminalProgress()
    return PlainProgress()


class _PrintedLines(Callback):
    """Base class of callbacks that print one line per finished epoch, validate, test and predict."""

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
        logged = trainer.callback_metrics
        metrics = epoch_metrics(logged, "train") | (epoch_metrics(logged, "val") if self._validated else {})
        self._print(label, [f"{name} {_short(value)}" for name, value in metrics.items()], seconds)

    def _print_batches(self, label: str, batches: list[int | float]) -> None:
        self._print(
            label, [f"{sum(batches)} batch{'' if sum(batches) == 1 else 'es'}"], self._seconds()
        )  # the command prints the metrics itself

    def _print(self, label: str, texts: list[str], seconds: str) -> None:
        if self._enabled:
            print("  ".join([label, *texts, seconds]), flush=True)

    def _seconds(self) -> str:
        return f"{time.perf_counter() - self._start_time:.1f} s"


def _throttled(hook: str, total: str) -> Callable[..., None]:
    """Return a hook that updates the rich bar only if it is due; `total` is its attribute for the number of batches."""

    def update(
        self: "TerminalProgress", trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        *loader: Any,
    ) -> None:  # fmt: skip
        if self.due(batch_idx, getattr(self, total)):
            getattr(RichProgressBar, hook)(self, trainer, module, outputs, batch, batch_idx, *loader)
            self.show_epoch(trainer)

    return update


class TerminalProgress(NoStepHooks, _PrintedLines, RichProgressBar):
    """Lightning's rich progress bar, which a line as in `PlainProgress` replaces when an epoch is finished.

    The bar is updated five times per second and at the last batch, not at every batch. It counts epochs from 1.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(
            refresh_rate=_REFRESHES_PER_SECOND, leave=False, theme=RichProgressBarTheme(metrics_format=".4g")
        )
        self._clock = clock
        self._next = clock()

    on_train_batch_end = _throttled("on_train_batch_end", "total_train_batches")
    on_validation_batch_end = _throttled("on_validation_batch_end", "total_val_batches_current_dataloader")
    on_test_batch_end = _throttled("on_test_batch_end", "total_test_batches_current_dataloader")
    on_predict_batch_end = _throttled("on_predict_batch_end", "total_predict_batches_current_dataloader")

    def due(self, batch_idx: int, batches: float) -> bool:
        """Return True if the bar is to be updated now."""
        now = self._clock()
        if now < self._next and batch_idx + 1 < batches:
            return False
        self._next = now + 1 / _REFRESHES_PER_SECOND
        return True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self.show_epoch(trainer)

    def show_epoch(self, trainer: Trainer) -> None:
        """Name the epoch in front of the bar as in the printed lines; Lightning counts from 0."""
        if self.progress is not None and self.train_progress_bar_id is not None and is_fitting(trainer):
            label = f"{_epoch_label(trainer):{len(self.validation_description)}}"
            self.progress.update(self.train_progress_bar_id, description=label)

    def disable(self) -> None:
        """Disable the lines and the bar."""
        _PrintedLines.disable(self)
        RichProgressBar.disable(self)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return only the loss of the step, since the lines show the metrics of the epochs."""
        items: dict[str, Any] = super().get_metrics(trainer, pl_module)
        losses = {name: value for name, value in items.items() if name.endswith("loss_step")}
        return losses or {name: value for name, value in items.items() if name != "v_num"}


class PlainProgress(NoStepHooks, _PrintedLines, ProgressBar):
    """One printed line per finished epoch, validate, test and predict.

    | line                                                                    | when                                |
    |-------------------------------------------------------------------------|-------------------------------------|
    | `epoch 3/10  train/loss 0.4123  val/loss 0.3922  val/acc 0.8610  2.1 s` | end of epoch, after all its metrics |
    | `test  79 batches  0.5 s`                                               | end of test, validate, predict      |

    Validation metrics are printed only for epochs with a validation.
    """

    def enable(self) -> None:
        """Print the lines again."""
        self._enabled = True


def _short(value: float) -> str:
    """Return four decimals, which align the lines of a run, or four significant digits of small and large numbers."""
    if abs(value) < 0.1:
        return f"{value:#.4g}"  # with zeros at the end, which align too
    return f"{value:.4f}" if abs(value) < 1e4 else format_number(value, 4)


def _epoch_label(trainer: Trainer) -> str:
    epoch = trainer.current_epoch + 1
    if trainer.max_steps > 0:
        return f"epoch {epoch}  step {trainer.global_step}/{trainer.max_steps}"
    return f"epoch {epoch}/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else f"epoch {epoch}"

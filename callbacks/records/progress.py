"""How far a run is: a bar where somebody looks at a terminal, one plain line an epoch where nobody does."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import epoch_metrics, format_number, is_fitting

_DRAWN_PER_SECOND = 5


def progress_bar() -> ProgressBar:
    """The bar for a terminal, `PlainProgress` for a file, a pipe or TERM=dumb. NO_COLOR is honoured by rich."""
    if sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb":
        return TerminalProgress()
    return PlainProgress()


class _Lines(Callback):
    """One line for each finished epoch, validation, test or prediction; beside it a bar may be drawn."""

    def __init__(self, **bar: Any) -> None:
        super().__init__(**bar)
        self._enabled = True
        self._validated = False
        self._begun = time.perf_counter()
        self._finished: tuple[str, str] | None = None

    def disable(self) -> None:
        """Lightning calls this on every process but the first."""
        self._enabled = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._finished = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show_epoch(trainer)
        self._validated = False
        self._begun = time.perf_counter()
        super().on_train_epoch_start(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_start(trainer, pl_module)
        if not is_fitting(trainer):
            self._begun = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not is_fitting(trainer):
            self._line("validate", [_batches(trainer.num_val_batches)], self._seconds())
        elif not trainer.sanity_checking:
            self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        # The module logs its epoch metrics after this hook: the line is written when the next epoch starts.
        self._finished = (_epoch_label(trainer), self._seconds())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self._show_epoch(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self._show_epoch(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_test_start(trainer, pl_module)
        self._begun = time.perf_counter()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_test_end(trainer, pl_module)
        self._line("test", [_batches(trainer.num_test_batches)], self._seconds())

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_predict_start(trainer, pl_module)
        self._begun = time.perf_counter()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_predict_end(trainer, pl_module)
        self._line("predict", [_batches(trainer.num_predict_batches)], self._seconds())

    def _show_epoch(self, trainer: Trainer) -> None:
        if self._finished is None:
            return
        label, seconds = self._finished
        self._finished = None
        self._line(label, _show(trainer, "train") + (_show(trainer, "val") if self._validated else []), seconds)

    def _line(self, label: str, parts: list[str], seconds: str) -> None:
        if self._enabled:
            print("  ".join([label, *parts, seconds]), flush=True)

    def _seconds(self) -> str:
        return f"{time.perf_counter() - self._begun:.1f} s"


class TerminalProgress(NoStepHooks, _Lines, RichProgressBar):
    """Lightning's rich bar, which gives way to the lines of `PlainProgress`.

    It is moved on a few times a second and at the last batch, not by every batch.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(refresh_rate=_DRAWN_PER_SECOND, leave=False)
        self._clock = clock
        self._next = clock()

    def _due(self, batch_idx: int, batches: float) -> bool:
        now = self._clock()
        if now < self._next and batch_idx + 1 < batches:
            return False
        self._next = now + 1 / _DRAWN_PER_SECOND
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
        """No lines and no bar."""
        _Lines.disable(self)
        RichProgressBar.disable(self)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Only the running loss: the lines show the epochs."""
        items: dict[str, Any] = super().get_metrics(trainer, pl_module)
        running = {name: value for name, value in items.items() if name.endswith("loss_step")}
        return running or {name: value for name, value in items.items() if name != "v_num"}


class PlainProgress(NoStepHooks, _Lines, ProgressBar):
    """One line for each finished epoch, validation, test or prediction; nothing is redrawn.

    | line                                                                 | when                                 |
    |----------------------------------------------------------------------|--------------------------------------|
    | `epoch 3/10  train/loss 0.4123  val/loss 0.3922  val/acc 0.8610  2.1 s` | epoch over, all its metrics known |
    | `test  79 batches  0.5 s`                                            | end of test, validate, predict       |

    val metrics stand only in the line of an epoch that was validated.
    """

    def enable(self) -> None:
        """Show the lines again."""
        self._enabled = True


def _batches(numbers: list[int | float]) -> str:
    """The figures themselves are printed by whoever asked for them."""
    return f"{sum(numbers)} batches"


def _show(trainer: Trainer, prefix: str) -> list[str]:
    metrics = epoch_metrics(trainer.callback_metrics, prefix)
    return [f"{name} {format_number(value)}" for name, value in metrics.items()]


def _epoch_label(trainer: Trainer) -> str:
    epoch = trainer.current_epoch + 1
    if trainer.max_steps > 0:
        return f"epoch {epoch}  step {trainer.global_step}/{trainer.max_steps}"
    return f"epoch {epoch}/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else f"epoch {epoch}"

"""Logger for metrics.csv. Unlike Lightning's CSVLogger, it keeps the file when a run is resumed."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from callbacks import NoStepHooks
from experiments.messages.formatting import say, shown
from experiments.runs.folder import RunFolder, write_text
from experiments.runs.folder_guard import FolderGuard

_FIRST = ("epoch", "step")
csv.field_size_limit(2**31 - 1)  # a damaged file has longer cells than the default of 131,072 characters


class MetricsCSV(Logger):
    """Logger that writes all metrics to `path`: one row per optimizer step that logs any, one column per metric.

    If a new metric adds a column, the file is rewritten atomically.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = Path(path)
        self._guard = FolderGuard(RunFolder(self._path.parent))
        self._columns: list[str] | None = None  # read before the first row is written, after `cut_back`
        self._row: dict[str, float] = {}
        self.error = ""  # the first reason why a row could not be written
        self._row_start: int | None = None  # position in the file of the current step's row
        self._end: int | None = None  # position after the last complete row; a full disk may leave a part of the next
        self._is_written = False  # the current step's row is complete in the file
        self.place: tuple[int, int] | None = None  # if set, the epoch and the step of every row

    @property
    def name(self) -> str:
        """The name of the logger, which is not part of a path."""
        return "metrics"

    @property
    def version(self) -> str:
        """Empty, because the run folder has a number already."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing; config.yaml stores the hyperparameters."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write the row at once, so that a killed run loses none, and add later metrics of the same step to it.

        If writing fails, warn once and continue training.
        """
        if self.place is not None:
            metrics, step = {**metrics, "epoch": self.place[0]}, self.place[1]
        try:
            self._write(metrics, step)
        except OSError as error:
            if not self.error:
                self.error = error.strerror or str(error)
                say(f"litlab: {shown(self._path)} could not be written ({error.strerror}); training continues.")

    def _write(self, metrics: Mapping[str, float], step: int | None) -> None:
        self._guard.check()
        values = {name: float(value) for name, value in metrics.items()} | {"step": float(step or 0)}
        if self._is_written and self._path.is_file() and values.items() <= self._row.items():
            return  # `RowBeforeCheckpoint` has written it
        self._is_written = False
        if self._row.get("step") != values["step"]:
            self._row, self._row_start = {}, None
        self._row |= values
        if self._columns is None or not self._path.is_file():
            self._columns, self._row_start, self._end = _header(self._path), None, None
        if new := [name for name in self._row if name not in self._columns]:
            self._columns = self._with_columns(self._columns, new)
        with self._path.open("r+", newline="", encoding="utf-8") as file:
            if self._end is None:
                self._end = file.seek(0, io.SEEK_END)
            if self._row_start is None:
                self._row_start = self._end
            file.seek(self._row_start)
            file.write(_line([_text(name, self._row.get(name)) for name in self._columns]))
            self._end = file.truncate()
        self._is_written = True

    def _with_columns(self, columns: list[str], names: list[str]) -> list[str]:
        """Rewrite the file with new columns and return all: epoch, step, then the metrics in order of appearance."""
        old: list[dict[str, str]] = []
        if self._path.is_file():
            with self._path.open(newline="", encoding="utf-8", errors="replace") as file:
                old = list(csv.DictReader(file))
        if self._row_start is not None:  # `_write` writes the row of this step again
            old.pop()
            self._row_start = None
        first = [name for name in _FIRST if name in names or name in columns]
        columns = [*first, *(name for name in [*columns, *names] if name not in _FIRST)]
        header = {name: name for name in columns}
        write_text(self._path, "".join(_line([row.get(name, "") for name in columns]) for row in [header, *old]))
        self._end = None
        return columns


class RowBeforeCheckpoint(NoStepHooks, Callback):
    """Callback that writes the current row of metrics.csv before each checkpoint.

    Lightning logs the metrics of a step and of an epoch after the hooks in which checkpoints are saved. A run killed in
    between would resume without them. The logger then writes the same values to the same row again.
    """

    _epoch_ends = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_ends = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_ends = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        step = int(checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"])
        step -= self._epoch_ends  # Lightning logs the metrics of an epoch with its last step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # public, without a type
        due = self._epoch_ends or trainer.should_stop or (every and (step + 1) % every == 0)
        if not trainer.training or not due:  # the metrics of a validation are logged before its checkpoint
            return
        if metrics := _unlogged(trainer):
            for logger in trainer.loggers:
                if isinstance(logger, MetricsCSV):
                    logger.log_metrics({**metrics, "epoch": trainer.current_epoch}, step)


def _unlogged(trainer: Trainer) -> dict[str, float]:
    """Return the metrics that Lightning logs next; `trainer.logged_metrics` also contains all earlier ones."""
    logged = trainer.logged_metrics
    before = dict(logged)
    logged.clear()
    current = dict(trainer.logged_metrics)
    logged.update({**before, **current})
    return {name: float(value) for name, value in current.items()}


def _header(path: Path) -> list[str]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return next(csv.reader(file), [])


def last_epoch(path: Path) -> int:
    """Return the largest epoch in metrics.csv, counted from 0; 0 without a valid row."""
    if not path.is_file():
        return 0
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        epochs = [row.get("epoch") or "" for row in csv.DictReader(file)]
    return max((int(epoch) for epoch in epochs if epoch.isdecimal() and len(epoch) < 10), default=0)


def cut_back(path: Path, steps: int) -> None:
    """Remove the rows from optimizer step `steps` on, which a run that resumes there logs again."""
    if not path.is_file():
        return
    text = path.read_bytes().decode("utf-8", errors="replace")  # a killed run may leave invalid bytes
    # A last row without a line break is incomplete; its last value may be cut off.
    rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))
    if not rows:
        path.unlink()
    if not rows or "step" not in rows[0]:
        return
    column = rows[0].index("step")
    # A row that was truncated by a full disk has fewer cells.
    valid = [row for row in rows[1:] if len(row) == len(rows[0]) and row[column].isdigit() and int(row[column]) < steps]
    write_text(path, "".join(map(_line, [rows[0], *valid])))


def _line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _text(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if name in _FIRST else repr(value)

"""A logger that appends to one metrics.csv; Lightning's CSVLogger deletes the file when it is opened again."""

from __future__ import annotations

import csv
import io
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from callbacks import whole_file
from experiments.messages.text import say, shown
from experiments.runs.folder import RunFolder
from experiments.runs.folder_guard import Owner

_FIRST = ("epoch", "step")


class MetricsCSV(Logger):
    """Writes every logged metric to `path`: a row per optimizer step that logged something, a column per metric.

    A metric that appears for the first time adds a column: the file is then written anew beside itself and renamed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = Path(path)
        self._owner = Owner(RunFolder(self._path.parent))
        self._columns: list[str] | None = None  # read before the first row: a run that goes on cuts the file back first
        self._row: dict[str, float] = {}
        self._told = False
        self._row_starts: int | None = None  # where the current step's row begins in the file

    @property
    def name(self) -> str:
        """Name of the logger, part of no path."""
        return "metrics"

    @property
    def version(self) -> str:
        """The run folder is the version."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Settings stand in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write the row at once, so that a killed run loses none; what the same step logs later joins its row.

        A disk that refuses costs rows, not the training: that is said once.
        """
        try:
            self._write(metrics, step)
        except OSError as problem:
            if not self._told:
                self._told = True
                say(f"litlab: {shown(self._path)} could not be written ({problem.strerror}); training goes on.")

    def _write(self, metrics: Mapping[str, float], step: int | None) -> None:
        self._owner.check()
        values = {**{name: float(value) for name, value in metrics.items()}, "step": float(step or 0)}
        if self._row.get("step") == values["step"]:
            self._row.update(values)
        else:
            self._row, self._row_starts = values, None
        columns = _header(self._path) if self._columns is None else self._columns
        if self._columns and not self._path.is_file():  # deleted meanwhile
            self._columns, self._row_starts = [], None
        new = [name for name in self._row if name not in columns]
        self._columns = self._with_columns(columns, new) if new else columns
        line = _line([_text(name, self._row.get(name)) for name in self._columns])
        with self._path.open("r+", newline="", encoding="utf-8") as file:
            self._row_starts = file.seek(0, io.SEEK_END) if self._row_starts is None else file.seek(self._row_starts)
            file.write(line)
            file.truncate()

    def _with_columns(self, columns: list[str], names: list[str]) -> list[str]:
        """Write the file anew with more columns; epoch and step stay in front, then the order of appearance."""
        old: list[dict[str, str]] = []
        if self._path.is_file():
            with self._path.open(newline="", encoding="utf-8", errors="replace") as file:
                old = list(csv.DictReader(file))
        if self._row_starts is not None:  # the row of this step is written again with its new columns
            old.pop()
            self._row_starts = None
        first = [name for name in _FIRST if name in names or name in columns]
        columns = [*first, *(name for name in [*columns, *names] if name not in _FIRST)]
        aside = self._path.with_suffix(".csv.new")
        lines = [_line(columns), *(_line([row.get(name, "") for name in columns]) for row in old)]
        aside.write_text("".join(lines), encoding="utf-8")
        os.replace(aside, self._path)
        return columns


def _header(path: Path) -> list[str]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:  # an edited or damaged one
        return next(csv.reader(file), [])


def cut_back(path: Path, steps: int) -> None:
    """Drop what was logged at or after so many optimizer steps: a run that goes on from there logs it again."""
    if not path.is_file():
        return
    text = path.read_bytes().decode("utf-8", errors="replace")  # a kill may leave any bytes at the end
    # A row whose line has no end was cut short, perhaps within its last number.
    rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))
    if rows and "step" not in rows[0]:
        return
    if not rows:
        path.unlink()
        return
    column = rows[0].index("step")
    # A row that a full disk cut short has fewer cells.
    kept = [row for row in rows[1:] if len(row) == len(rows[0]) and row[column].isdigit() and int(row[column]) < steps]
    with whole_file(path) as whole:
        whole.write("".join(map(_line, [rows[0], *kept])).encode("utf-8"))


def _line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _text(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if name in _FIRST else repr(value)

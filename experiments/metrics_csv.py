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
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import whole_file
from experiments.words import one_line, say, shown

_FIRST = ("epoch", "step")


class MetricsCSV(Logger):
    """Writes every logged metric to `path`: a row per optimizer step that logged something, a column per metric.

    A metric that appears for the first time adds a column: the file is then written anew beside itself and renamed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = Path(path)
        self._columns: list[str] = []
        self._row: dict[str, float] = {}
        self._told = False
        self._row_starts: int | None = None  # where the current step's row begins in the file
        if self._path.is_file():
            self._columns = next(iter(_rows(self._path)), [])

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
        values = {**{name: float(value) for name, value in metrics.items()}, "step": float(step or 0)}
        if self._row.get("step") == values["step"]:
            self._row.update(values)
        else:
            self._row, self._row_starts = values, None
        new = [name for name in self._row if name not in self._columns]
        if new:
            self._add_columns(new)
        line = _line([_text(name, self._row.get(name)) for name in self._columns])
        with self._path.open("r+", newline="", encoding="utf-8") as file:
            self._row_starts = file.seek(0, io.SEEK_END) if self._row_starts is None else file.seek(self._row_starts)
            file.write(line)
            file.truncate()

    def _add_columns(self, names: list[str]) -> None:
        """Keep epoch and step in front, then the order of appearance."""
        old: list[dict[str, str]] = []
        if self._path.is_file():
            with self._path.open(newline="", encoding="utf-8") as file:
                old = list(csv.DictReader(file))
        if self._row_starts is not None:  # the row of this step is written again with its new columns
            old.pop()
            self._row_starts = None
        first = [name for name in _FIRST if name in names or name in self._columns]
        rest = [name for name in [*self._columns, *names] if name not in _FIRST]
        self._columns = [*first, *rest]
        aside = self._path.with_suffix(".csv.new")
        lines = [_line(self._columns), *(_line([row.get(name, "") for name in self._columns]) for row in old)]
        aside.write_text("".join(lines), encoding="utf-8")
        os.replace(aside, self._path)


def cut_back(path: Path, steps: int) -> None:
    """Drop what was logged at or after so many optimizer steps: a run that goes on from there logs it again."""
    if not path.is_file():
        return
    rows = _rows(path)
    if not rows or "step" not in rows[0]:
        return
    column = rows[0].index("step")
    # A row that was cut short by a full disk or a kill has fewer cells.
    kept = [row for row in rows[1:] if len(row) == len(rows[0]) and row[column].isdigit() and int(row[column]) < steps]
    with whole_file(path) as whole:
        whole.write("".join(map(_line, [rows[0], *kept])).encode("utf-8"))


def _rows(path: Path) -> list[list[str]]:
    """The file's cells, its head first."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise MisconfigurationException(
            f"run: {shown(path)} is damaged ({one_line(str(error), 100)}). Move it away; the run then goes on without "
            "its earlier figures."
        ) from error


def _line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _text(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if name in _FIRST else repr(value)

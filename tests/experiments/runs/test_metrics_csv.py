"""metrics.csv on a disk that is full for some time."""

from __future__ import annotations

import csv
import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from experiments.runs.metrics_csv import MetricsCSV


def test_half_a_row_of_a_full_disk_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv"
    logger = MetricsCSV(path)
    logger.log_metrics({"epoch": 0, "loss": 3.0}, 0)
    half = Path.open

    def full(self: Path, *arguments: Any, **options: Any) -> io.TextIOWrapper:
        with half(self, "a") as file:
            file.write("0,1,2.")  # what fitted on the disk
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        logger.log_metrics({"epoch": 0, "loss": 2.0}, 1)
    logger.log_metrics({"epoch": 0, "loss": 1.0}, 2)
    logger.log_metrics({"epoch": 0, "accuracy": 0.5}, 2)  # a new column
    logger.log_metrics({"epoch": 0, "accuracy": 0.5}, 2)  # the same again
    with path.open(newline="") as file:
        rows = [(row["step"], row["loss"], row["accuracy"]) for row in csv.DictReader(file)]
    assert rows == [("0", "3.0", ""), ("2", "1.0", "0.5")]
    assert "No space left" in logger.error


def test_a_row_that_was_not_written_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"epoch": 0, "loss": 3.0}, 0)
    with monkeypatch.context() as patch:
        patch.setattr(logger, "_columns", None)
        patch.setattr("experiments.runs.metrics_csv._header", lambda _: (_ for _ in ()).throw(OSError(5, "no disk")))
        logger.log_metrics({"epoch": 0, "loss": 2.0}, 1)
    logger.log_metrics({"epoch": 0, "loss": 2.0}, 1)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1:] == ["0,0,3.0", "0,1,2.0"]

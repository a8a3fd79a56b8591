"""Properties of any config file and any metrics.csv, instead of examples."""

from __future__ import annotations

import csv
import io
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.command_line.read_request import read_request
from experiments.command_line.trainer import LitlabTrainer
from experiments.messages.errors import UserError
from experiments.options.command_table import COMMANDS
from experiments.options.config_files import dump_yaml, read_config
from experiments.options.merge import merge
from experiments.runs.metrics_csv import MetricsCSV, cut_back

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)

# PyYAML itself writes these as line breaks or marks and reads them as something else.
texts = st.text(st.characters(exclude_characters="\x85\u2028\u2029\ufeff", exclude_categories=["Cs"]), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@quick
@given(st.dictionaries(texts, plain, max_size=4), st.booleans())
def test_what_was_written_as_yaml_is_read_again(content: dict[str, Any], flow: bool) -> None:
    content = {name: value for name, value in content.items() if name not in ("model", "data", "trainer")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.yaml")
        path.write_text(dump_yaml(content, default_flow_style=flow), encoding="utf-8")
        assert read_config(path) == content


yaml_like = st.text("abc:-[]{}#&*!|>%@`'\"\\ \n\t0123456789.eE_~?,=<$\0\x07\x85\u2028\ufeff\ud7ff", max_size=40)
SNIPPETS = [
    "a: 1\n", "- x\n", "model:\n", "data: a.yaml\n", "  b: [1, 2]\n", "<<: 3\n", "<<: *a\n", "&a \n", "*a\n",
    "? [a]\n", ": b\n", "!!binary x\n", "!!timestamp x\n", "!!int x\n", "!!float x\n", "!!set {a}\n",
    "!!omap [a]\n", "!!python/object:x {}\n", "2001-99-99\n", "a: 2001-13-45\n", "---\n", "...\n",
    "a: 1:99:99\n", "{a: 1}: 2\n", "[1]: 2\n", "a: !!bool x\n", "a: 0o9\n", "a: 0b\n", "a: 0x_\n", "a: 1_\n",
    "a: =\n", "a: .\n", "1: a\n", "null: a\n", "trainer: {callbacks: 3}\n", "trainer: [1]\n", "model: 3\n",
    "model: [1]\n", "trainer: {callbacks: [1, null]}\n",
]  # fmt: skip
snippets = st.lists(st.sampled_from(SNIPPETS), max_size=5).map("".join)


def read_anything(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.yaml")
        path.write_bytes(content)
        for read in (read_config, lambda path: merge(read_request(COMMANDS["fit"], [str(path)] * 2), LitlabTrainer)):
            try:
                assert isinstance(read(path), dict)
            except UserError as error:
                assert str(path) in str(error) or "is missing. Name one by" in str(error)  # noqa: PT017


@settings(quick, max_examples=300)
@given(st.binary(max_size=60) | yaml_like.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_settings_or_a_mistake_that_names_the_file(content: bytes) -> None:
    read_anything(content)


@settings(quick, max_examples=300)
@given(snippets)
def test_any_yaml_is_settings_or_a_mistake_that_names_the_file(text: str) -> None:
    read_anything(text.encode())


def test_a_config_that_includes_itself_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: b.yaml\n")
    (tmp_path / "b.yaml").write_text("data: a.yaml\n")
    with pytest.raises(UserError, match=r"includes itself"):
        read_config(tmp_path / "a.yaml")


metric = st.sampled_from(["epoch", "train/loss", "val/loss", "lr-Adam", 'odd, "name"', "line\nbreak"])
rows = st.lists(
    st.dictionaries(metric, st.floats(allow_nan=True) | st.integers(0, 9).map(float), min_size=1, max_size=4),
    max_size=7,
)


def logged(path: Path, written: list[dict[str, float]]) -> list[dict[str, str]]:
    """A row per step, as a run logs them, and what a reader finds."""
    logger = MetricsCSV(path)
    for step, row in enumerate(written):
        logger.log_metrics({**row, "epoch": float(step // 3)}, step)
    return read_rows(path)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@quick
@given(rows)
def test_every_logged_row_is_read_again(written: list[dict[str, float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = logged(Path(folder, "metrics.csv"), written) if written else []
        assert [int(row["step"]) for row in found] == list(range(len(written)))
        for row, numbers in zip(found, written, strict=True):
            kept = {name: float(cell) for name, cell in row.items() if cell and name not in ("epoch", "step")}
            assert repr(kept.keys() ^ numbers.keys() - {"epoch"}) in ("set()", "{'epoch'}")
            for name, value in kept.items():
                assert value == numbers[name] or (math.isnan(value) and math.isnan(numbers[name]))


@settings(quick, max_examples=200)
@given(rows, st.data())
def test_a_file_cut_anywhere_is_cut_back_to_whole_rows_and_goes_on(
    written: list[dict[str, float]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metrics.csv")
        whole = logged(path, written or [{"val/loss": 1.0}])
        content = path.read_bytes()
        keep = data.draw(st.integers(0, len(content)), label="bytes kept")
        path.write_bytes(content[:keep] + data.draw(st.sampled_from([b"", b"\0\0\0", b"\xff\xfe", b"7"]), label="tail"))
        steps = data.draw(st.integers(0, len(whole) + 1), label="steps")
        cut_back(path, steps)
        left = read_rows(path) if path.is_file() else []
        assert left == whole[: len(left)], "whole rows, from the first on"
        assert len(left) <= steps
        complete = sum(1 for number in range(1, len(whole) + 1) if len(header_and(whole[:number])) <= keep)
        assert len(left) == min(steps, complete)
        logger = MetricsCSV(path)
        logger.log_metrics({"val/loss": 2.0, "epoch": 9.0}, 99)
        again = read_rows(path)
        assert [row["step"] for row in again] == [row["step"] for row in left] + ["99"]
        assert float(again[-1]["val/loss"]) == 2.0


def header_and(whole: list[dict[str, str]]) -> bytes:
    """The file with these rows."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(list(whole[0]))
    writer.writerows(list(row.values()) for row in whole)
    return text.getvalue().encode()

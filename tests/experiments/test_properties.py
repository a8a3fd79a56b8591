"""What holds for any words, any config file and any metrics.csv: properties instead of examples."""

from __future__ import annotations

import csv
import io
import math
import string
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.command_line.word_order import SPECS, arrange, class_path, option, read_config
from experiments.options.overrides import as_words
from experiments.runs.metrics_csv import MetricsCSV, cut_back

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)

names = st.sampled_from(
    ["--model", "--model.width", "--data.batch_size", "--trainer.max_epochs", "--seed_everything", "--monitor"]
    + [f"--model.{spec}" for spec in SPECS]
    + [f"--model.{spec}.lr" for spec in SPECS]
)
plain_values = st.text(string.ascii_letters + string.digits + " ._,[]{}:=é漢", min_size=1, max_size=8)
values = plain_values.filter(lambda text: not text.startswith("-"))
other_names = names.filter(lambda name: name != "--model")  # a model of another: specs are litlab's own
option_of = st.one_of(
    st.tuples(other_names, values, st.booleans()), st.tuples(st.just("--model"), st.just("mine.Net"), st.booleans())
)
options = st.lists(option_of, max_size=6)


def words_of(given_options: list[tuple[str, str, bool]]) -> list[str]:
    """Each as `--a b` or as `--a=b`."""
    return [
        word for name, value, joined in given_options for word in ([f"{name}={value}"] if joined else [name, value])
    ]


def pairs(words: list[str]) -> list[tuple[str, str]]:
    """(name, value) of arranged words, whichever form they have."""
    found, rest = [], iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        found.append((name, value if equals else next(rest)))
    return found


def arranged_of(words: list[str]) -> tuple[list[str], list[Path]]:
    """`arrange`, but for words that it refuses: an option before its model, say."""
    try:
        return arrange(words)
    except MisconfigurationException:
        reject()


@quick
@given(options)
def test_no_word_is_lost_invented_or_reordered(given_options: list[tuple[str, str, bool]]) -> None:
    words = words_of(given_options)
    arranged, configs = arranged_of(list(words))
    assert configs == []
    assert pairs(arranged) == pairs(words)


@quick
@given(st.data(), options)
def test_configs_stand_first_in_their_order_and_the_rest_keeps_its_own(
    data: st.DataObject, given_options: list[tuple[str, str, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.yaml") for number in range(data.draw(st.integers(0, 3)))]
        for file in files:
            file.write_text("seed_everything: 1\n")
        blocks = [words_of([one]) for one in given_options]
        places = sorted(data.draw(st.integers(0, len(blocks))) for _ in files)
        for file, place in reversed(list(zip(files, places, strict=True))):
            blocks.insert(place, [f"--config={file}"])
        arranged, configs = arranged_of([word for block in blocks for word in block])
        assert configs == files
        assert arranged[: len(files)] == [f"--config={file}" for file in files]
        assert pairs(arranged[len(files) :]) == pairs(words_of(given_options))


@quick
@given(options)
def test_of_litlabs_own_models_a_spec_is_one_mapping_and_both_forms_say_the_same(
    given_options: list[tuple[str, str, bool]],
) -> None:
    model = [("--model", "LitMLP", False), *(one for one in given_options if one[0] != "--model")]
    joined = arrange(words_of([(name, value, True) for name, value, _ in model]))[0]
    apart = arrange(words_of([(name, value, False) for name, value, _ in model]))[0]
    assert pairs(joined) == pairs(apart)
    for name, _, _ in model:
        last = option(words_of(model), name)
        kept = option(joined, name)
        if name.rpartition(".")[2] not in SPECS:
            assert kept == last
    others = [one[:2] for one in model if not one[0].startswith(tuple(f"--model.{spec}" for spec in SPECS))]
    assert pairs(joined)[: len(others)] == others, "what is no spec keeps its order"


@quick
@given(options)
def test_the_last_of_several_values_counts_in_either_form(given_options: list[tuple[str, str, bool]]) -> None:
    words = words_of(given_options)
    for name, _, _ in given_options:
        assert option(words, name) == [value for other, value, _ in given_options if other == name][-1]
    assert class_path([{"model": "A"}, {"model": {"class_path": "B"}}], words, "model") == (
        option(words, "--model") or "B"
    )


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
        path.write_text(yaml.safe_dump(content, allow_unicode=True, default_flow_style=flow), encoding="utf-8")
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
        for read in (read_config, lambda path: arrange([f"--config={path}", f"--config={path}"])):
            try:
                assert isinstance(read(path), (dict, tuple))
            except MisconfigurationException as mistake:
                assert str(path) in str(mistake)  # noqa: PT017


@settings(quick, max_examples=300)
@given(st.binary(max_size=60) | yaml_like.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_settings_or_a_mistake_that_names_the_file(content: bytes) -> None:
    read_anything(content)


@settings(quick, max_examples=300)
@given(snippets)
def test_any_yaml_is_settings_or_a_mistake_that_names_the_file(text: str) -> None:
    read_anything(text.encode())


def test_a_config_that_names_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: b.yaml\n")
    (tmp_path / "b.yaml").write_text("data: a.yaml\n")
    with pytest.raises(MisconfigurationException, match=r"includes itself"):
        read_config(tmp_path / "a.yaml")


letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | letters,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(letters, inner, max_size=3),
    max_leaves=8,
)


@quick
@given(
    st.tuples(st.just(str), st.text(max_size=12))
    | st.tuples(st.just(float), st.floats(allow_nan=False))
    | st.tuples(st.just(int), st.integers())
    | st.tuples(st.just(bool), st.booleans())
    | st.tuples(st.just(int | None), st.none() | st.integers())
    | st.tuples(st.just(list[Any]), st.lists(json_values, max_size=3))
    | st.tuples(st.just(dict[str, Any]), st.dictionaries(letters, json_values, max_size=3))
)
def test_values_from_python_reach_the_parser_as_they_are(typed: tuple[Any, Any]) -> None:
    kind, value = typed
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--x", type=kind)
    found = parser.parse_args(as_words({"x": value})).x
    assert (found, type(found)) == (value, type(value))


def test_paths_and_numbers_of_libraries_are_written_plainly_and_the_rest_is_refused() -> None:
    values = {"a": Path("x y"), "b": [np.int64(3), np.float64(0.5), torch.tensor(2)], "c": [Path("z")]}
    assert as_words(values) == ["--a=x y", "--b=[3, 0.5, 2]", '--c=["z"]']
    with pytest.raises(MisconfigurationException, match=r"fit: model.hidden is no plain data \(a object\)"):
        as_words({"model.hidden": [object()]})


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

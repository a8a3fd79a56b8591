"""Properties of any command-line arguments and any values from Python, on their way to the parser."""

from __future__ import annotations

import string
import tempfile
from argparse import ArgumentError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

import lit_models
from experiments.command_line.read_request import read_request
from experiments.command_line.trainer import LitlabTrainer
from experiments.messages.errors import UserError
from experiments.options.command_table import COMMANDS
from experiments.options.merge import NAMED_COMPONENTS, merge
from experiments.options.request import Request
from experiments.options.signatures import default_of

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)

FIT = COMMANDS["fit"]
names = st.sampled_from(
    ["model.dropout", "model.init_args.hidden", "data.batch_size", "trainer.max_epochs", "seed_everything", "monitor"]
    + [f"model.{component}" for component in NAMED_COMPONENTS]
    + [f"model.{component}.lr" for component in NAMED_COMPONENTS]
)
plain_values = st.text(string.ascii_letters + string.digits + " ._,[]{}:=é漢", min_size=1, max_size=8)
values = plain_values.filter(lambda text: not text.startswith("-"))
options = st.lists(st.tuples(names, values, st.booleans()), max_size=6)


def arguments_of(given_options: list[tuple[str, str, bool]]) -> list[str]:
    """Each as `--a b` or as `--a=b`."""
    return [
        argument
        for name, value, joined in given_options
        for argument in ([f"--{name}={value}"] if joined else [f"--{name}", value])
    ]


def pairs(request: Request) -> list[tuple[str, str]]:
    return [(option.name, option.value) for option in request.given]


def merged_or_error(arguments: list[str]) -> dict[str, Any] | str:
    try:
        return merge(read_request(FIT, arguments), LitlabTrainer)
    except UserError as error:
        return str(error)


@quick
@given(options)
def test_no_option_is_lost_invented_or_reordered(given_options: list[tuple[str, str, bool]]) -> None:
    request = read_request(FIT, ["mlp_digits", *arguments_of(given_options)])
    assert pairs(request) == [(name, value) for name, value, _ in given_options]
    assert [path.stem for path in request.configs] == ["mlp_digits"]
    assert not request.actions


@quick
@given(options)
def test_the_last_of_several_values_counts_and_both_forms_mean_the_same(
    given_options: list[tuple[str, str, bool]],
) -> None:
    joined = ["mlp_digits", *arguments_of([(name, value, True) for name, value, _ in given_options])]
    apart = ["mlp_digits", *arguments_of([(name, value, False) for name, value, _ in given_options])]
    request = read_request(FIT, apart)
    for name, _, _ in given_options:
        assert request.option(name) == [value for other, value, _ in given_options if other == name][-1]
    assert merged_or_error(joined) == merged_or_error(apart)


# Values that YAML reads as they are, by dotted name.
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "seed_everything": st.integers(0, 9),
    "monitor": st.sampled_from(["val/acc", "val/loss"]),
    "model.init_args.dropout": st.floats(0, 0.9),
    "model.init_args.hidden": st.lists(st.integers(1, 9), min_size=1, max_size=3),
    "data.init_args.batch_size": st.integers(1, 99),
    "data.init_args.stratify": st.booleans(),
    "trainer.max_epochs": st.integers(1, 9),
    "trainer.limit_val_batches": st.floats(0, 1),
}
documents = st.fixed_dictionaries({}, optional=SETTINGS)
CLASSES = {"model.class_path": "LitMLP", "data.class_path": "DigitsDataModule"}


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """{'a.b': 1} as {'a': {'b': 1}}."""
    result: dict[str, Any] = {}
    for name, value in flat.items():
        inner = result
        *outer, last = name.split(".")
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return result


@quick
@given(st.data(), st.lists(documents, max_size=3), documents)
def test_options_beat_files_wherever_they_are_and_later_files_beat_earlier_ones(
    data: st.DataObject, flat_files: list[dict[str, Any]], given_options: dict[str, Any]
) -> None:
    flat_files = [CLASSES, *flat_files]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.yaml") for number in range(len(flat_files))]
        for file, flat in zip(files, flat_files, strict=True):
            file.write_text(yaml.safe_dump(nested(flat)))
        texts = {name: yaml.safe_dump(value, default_flow_style=True) for name, value in given_options.items()}
        short = {name.replace(".init_args", ""): text.split("\n")[0] for name, text in texts.items()}
        blocks = [[f"--{name}", text] for name, text in data.draw(st.permutations(list(short.items())))]
        places = sorted(data.draw(st.integers(0, len(blocks))) for _ in files)
        for file, place in reversed(list(zip(files, places, strict=True))):
            blocks.insert(place, [f"--config={file}"])
        request = read_request(FIT, [argument for block in blocks for argument in block])
        assert request.configs == files
        found = merge(request, LitlabTrainer)
    expected: dict[str, Any] = {}
    for flat in [*flat_files, given_options]:
        expected |= flat
    as_typed = jsonargparse_of(found)
    assert {name: as_typed[name] for name in expected if name not in CLASSES} == {
        name: value for name, value in expected.items() if name not in CLASSES
    }
    assert as_typed.keys() == expected.keys()


def jsonargparse_of(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a merged mapping, text read by jsonargparse as the type of its argument."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= jsonargparse_of(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    parser = ArgumentParser(exit_on_error=False)
    for name in flat:
        parser.add_argument(f"--{name}", type=TYPES.get(name, str))
    return {name: parser.parse_object(nested(flat))[name] for name in flat} if not prefix else flat


TYPES: dict[str, Any] = {
    "seed_everything": int,
    "model.init_args.dropout": float,
    "model.init_args.hidden": list[int],
    "data.init_args.batch_size": int,
    "data.init_args.stratify": bool,
    "trainer.max_epochs": int,
    "trainer.limit_val_batches": int | float,
}


@quick
@given(st.permutations(["name", "lr", "momentum"]), st.sets(st.sampled_from(["name", "lr", "momentum"])), st.booleans())
def test_a_component_is_one_mapping_in_whatever_order_its_options_come(
    order: list[str], chosen: set[str], in_config: bool
) -> None:
    typed = {"name": "sgd", "lr": 0.1, "momentum": 0.5}
    option_of = {"name": "--model.optimizer=sgd", "lr": "--model.optimizer.lr=0.1"}
    option_of["momentum"] = "--model.init_args.optimizer.momentum=0.5"
    base = {"name": "adamw", "weight_decay": 0.2} if in_config else default_of(lit_models.LitMLP, "optimizer")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.yaml")
        content = nested(CLASSES)
        if in_config:
            content["model"]["init_args"] = {"optimizer": base}
        file.write_text(yaml.safe_dump(content))
        arguments = [option_of[name] for name in order if name in chosen]
        found = merge(read_request(FIT, [str(file), *arguments]), LitlabTrainer)["model"].get("init_args", {})
    if chosen == {"name"}:
        assert found["optimizer"] == "sgd"
        return
    start = {} if "name" in chosen else {"name": base} if isinstance(base, str) else base
    expected = {**start, **{name: typed[name] for name in chosen}}
    assert found.get("optimizer", expected) == expected
    assert ("optimizer" in found) == bool(chosen or in_config)


@quick
@given(
    st.sampled_from([int, float, bool, str, int | None, str | None, float | str, list[int], dict[str, Any]]),
    # argparse removes the text `--`, even after `--x=`.
    st.text("0123456789.-e[]{}:, truefalsn'", max_size=9).filter(lambda text: text != "--"),
)
def test_text_of_an_option_is_read_by_the_type_as_jsonargparse_reads_its_own(kind: Any, text: str) -> None:
    def outcome(parse: Callable[[], Any]) -> Any:
        try:
            return repr(parse().x)
        except ArgumentError:
            return "error"

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--x", type=kind)
    (option,) = read_request(FIT, [f"--x={text}"]).given
    assert outcome(lambda: parser.parse_object({"x": option.value})) == outcome(
        lambda: parser.parse_args([f"--x={text}"])
    )


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
    (option,) = Request.from_python(FIT, {"x": value}, []).given
    found = parser.parse_object({"x": option.value}).x
    assert (found, type(found)) == (value, type(value))


def test_paths_and_numbers_of_libraries_become_plain_and_objects_are_rejected() -> None:
    values = {"a": Path("x y"), "b": [np.int64(3), np.float64(0.5), torch.tensor(2)], "c+": [Path("z")], "d": (1, 2)}
    given_options = Request.from_python(FIT, values, []).given
    assert [(option.name, option.value, option.append) for option in given_options] == [
        ("a", "x y", False), ("b", [3, 0.5, 2], False), ("c", ["z"], True), ("d", [1, 2], False)
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"fit: model.hidden must be plain data, got a value of type object\."):
        Request.from_python(FIT, {"model.hidden": [object()]}, [])

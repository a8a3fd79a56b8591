"""Damaged and hostile files of a run folder and of configs end in a message, never in a traceback or a hang."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.experiments.conftest import Command

FIT = (
    "fit", "mlp_digits", "--data.train_fraction=0.2", "--model.hidden=[8]", "--trainer.max_epochs=1",
    "--model.scheduler=null", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
)  # fmt: skip
RUN = Path("runs/mlp_digits/0")
COMMANDS = (
    ("test", str(RUN)),
    ("validate", str(RUN)),
    ("resume", str(RUN), "--trainer.max_epochs=2"),
    ("rerun", str(RUN), "--check"),
    ("list", "runs"),
)
DEEP_OR_INVALID = (
    "[" * 10_000 + "]" * 10_000,
    '{"a": ' * 10_000,
    "\0",
    "",
    "1",
    '{"steps": 1' + "0" * 5000 + "}",
)
VALUES = (-3, 10**30, 1e308, "text", None, [], {}, True, [[[]]], {"a": {"b": -1}})


def bomb(key: str = "model") -> str:
    """Return YAML of a few lines that stands for 9^12 values."""
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join([*lines, f"{key}: LitMLP", ""])


def check(litlab: Command, *words: str) -> str:
    found = litlab(*words)
    assert found.code in (0, 1, 2), found.err
    assert "Traceback" not in found.out + found.err, (words, found.err[-1500:])
    assert "bug in litlab" not in found.err
    return found.err


@pytest.mark.parametrize("name", ["environment.json", "results.json"])
def test_random_values_in_records_are_no_traceback(litlab: Command, name: str) -> None:
    assert litlab(*FIT).code == 0
    intact, rng = Path("intact"), random.Random(name)
    shutil.copytree(RUN, intact)

    def slots(value: Any) -> list[tuple[Any, Any]]:
        entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [found for key, item in list(entries) for found in [(value, key), *slots(item)]]

    for _ in range(25):
        shutil.rmtree("runs")
        shutil.copytree(intact, RUN)
        content = json.loads((RUN / name).read_text())
        container, key = rng.choice(slots(content))
        container[key] = rng.choice(VALUES)
        (RUN / name).write_text(json.dumps(content))
        check(litlab, *rng.choice(COMMANDS))


@pytest.mark.parametrize("name", ["environment.json", "results.json", "config.yaml"])
@pytest.mark.parametrize("text", DEEP_OR_INVALID)
def test_deeply_nested_and_invalid_records_are_rejected(litlab: Command, name: str, text: str) -> None:
    assert litlab(*FIT).code == 0
    (RUN / name).write_text(text)
    for words in COMMANDS:
        check(litlab, *words)


def test_a_long_cell_in_metrics_is_no_traceback(litlab: Command) -> None:
    assert litlab(*FIT).code == 0
    with (RUN / "metrics.csv").open("a") as file:
        file.write("x" * 200_000 + ",1\n")
    for words in COMMANDS:
        check(litlab, *words)


@pytest.mark.skipif(os.name == "nt", reason="needs named pipes")
@pytest.mark.parametrize("name", ["environment.json", "results.json", "config.yaml", "metrics.csv"])
def test_a_named_pipe_in_place_of_a_record_does_not_block(litlab: Command, name: str) -> None:
    assert litlab(*FIT).code == 0
    (RUN / name).unlink()
    os.mkfifo(RUN / name)
    for words in COMMANDS:
        check(litlab, *words)


def test_an_alias_bomb_is_rejected(litlab: Command, tmp_path: Path) -> None:
    (tmp_path / "bomb.yaml").write_text(bomb())
    assert "stand for more than 100,000 values" in litlab("fit", "bomb.yaml").sentence
    (tmp_path / "loop.yaml").write_text("model: &m\n  class_path: LitMLP\n  init_args: *m\n")
    assert "contain themselves" in litlab("fit", "loop.yaml").sentence
    assert litlab(*FIT).code == 0
    config = (RUN / "config.yaml").read_text()
    (RUN / "config.yaml").write_text(config + bomb("more"))
    assert "stand for more than 100,000 values" in litlab("resume", str(RUN), "--trainer.max_epochs=2").sentence
    (RUN / "config.yaml").write_text(config)
    last = RUN / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    content["config"] += bomb("more")
    content["litlab"].pop("sha256", None)
    torch.save(content, last)
    assert "is corrupted" in litlab("resume", str(RUN), "--trainer.max_epochs=2").sentence


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--threads=100000", "threads must be at most 1,024"),
        ("--threads=1000000000000", "threads must be at most 1,024"),
        ("--trainer.devices=3000", "devices need as many processes"),
        ("--data.num_workers=100000", "num_workers must be at most 1024"),
        ("--experiment=-rf", "without a dot or a minus at its start"),
    ],
)
def test_numbers_that_no_machine_has_are_rejected(litlab: Command, option: str, message: str) -> None:
    extra = ["--data.holding=workers"] if "num_workers" in option else ["--trainer.accelerator=cpu"]
    found = litlab(*FIT, option, *extra)
    assert (found.code, message in found.sentence) == (2, True), found.err
    assert not Path("runs").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o002, 0o775)])
def test_a_run_folder_has_the_permissions_of_other_new_folders(litlab: Command, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        assert litlab(*FIT).code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(RUN.stat().st_mode) == mode
    for path in RUN.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & mask, path

"""`litlab rerun RUN --check` where something differs: it is found, measured and put down to what differs beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import load_run
from tests.edited_checkpoints import save_edited
from tests.experiments.commands.test_rerun import AGAIN, DIGITS, FILES, RUN, environment
from tests.experiments.conftest import Command


def edit(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = environment(run)
    change(record)
    (run / "environment.json").write_text(json.dumps(record))


def check(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = environment(run)["rerun_of"]["check"]
    return found


def test_an_option_beats_the_config_and_the_difference_is_named(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS).code == 0
    result = litlab("rerun", "mlp_digits", "--check", "--seed_everything=7")
    assert result.code == 1, result.out + result.err
    before, _, after = result.out.partition("Trained")
    for part in (before, after):
        assert "differs settings: seed_everything 42 -> 7" in part
    assert "repeats runs/mlp_digits/0, with differences:" in before
    assert "differ  first in metrics.csv, step 1: train/loss_step was " in after
    assert "same    code, versions, data, hardware" in after
    found = check(AGAIN)
    assert found["agrees"] is False
    assert found["first"]["name"] == "train/loss_step"
    assert found["first"]["there"] != found["first"]["here"]
    assert found["weights"]["last.ckpt"]["apart"] > 0
    assert environment(AGAIN)["seed"] == 7


def test_changed_data_is_named_before_and_after(litlab: Command, workshop: Path, tiny_data: Path) -> None:
    shutil.copytree(tiny_data / "MNIST", workshop / "mine" / "MNIST")
    words = ("logistic_mnist", *FILES, f"--data.data_dir={workshop / 'mine'}")
    assert litlab("fit", *words).code == 0
    images = workshop / "mine/MNIST/raw/train-images-idx3-ubyte"
    content = bytearray(images.read_bytes())
    content[16:2000] = bytes(255 - value for value in content[16:2000])
    images.write_bytes(content)
    result = litlab("rerun", "logistic_mnist", "--check")
    assert result.code == 1, result.out + result.err
    assert result.out.count("differs data: train_data ") == 2
    assert "same    code, versions, hardware, settings" in result.out


def test_other_versions_are_named_though_the_numbers_agree(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS).code == 0
    edit(RUN, lambda record: record["versions"].update(torch="1.0", numpy="1.0"))
    edit(RUN, lambda record: record["sources"].update(litlab="0" * 64))
    edit(RUN, lambda record: record["hardware"].update(processor="Abacus"))
    result = litlab("rerun", "mlp_digits", "--check")
    assert result.code == 0, result.out + result.err
    assert "agree   all" in result.out
    assert f"differs versions: torch 1.0 -> {torch.__version__}; numpy 1.0 -> " in result.out
    assert "differs code: litlab 000000000000… -> " in result.out
    assert "differs hardware: processor Abacus -> " in result.out


def test_an_altered_weight_is_found_and_measured(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS).code == 0
    last = RUN / "checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    weight = content["state_dict"]["net.layers.0.weight"]
    weight[3, 5] += weight.abs().max() * 1e-3
    save_edited(content, last)
    result = litlab("rerun", "mlp_digits", "--check")
    assert result.code == 1, result.out + result.err
    assert "differ  first in last.ckpt: net.layers.0.weight by 0.001 of its largest weight" in result.out
    assert "0 of " in result.out
    assert "weights best.ckpt: equal, bit for bit" in result.out
    assert "No recorded difference explains this" in result.out
    assert "--trainer.deterministic true" in result.out
    worst = check(AGAIN)["weights"]["last.ckpt"]
    assert worst["apart"] == pytest.approx(1e-3, rel=0.02)


def test_one_edited_figure_is_found(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS).code == 0
    rows = (RUN / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("lr-Adam")
    cells = rows[2].split(",")
    cells[column] = "0.5"
    (RUN / "metrics.csv").write_text("\n".join([*rows[:2], ",".join(cells), *rows[3:]]) + "\n")
    result = litlab("rerun", "mlp_digits", "--check")
    assert result.code == 1, result.out + result.err
    assert f"metrics.csv, step {cells[1]}: lr-Adam was 0.5 and is now 0.0" in result.out
    assert "\n        1 of " in result.out
    (RUN / "metrics.csv").write_text("\n".join(rows[:-1]) + "\n")
    result = litlab("rerun", str(RUN), "--check")
    assert result.code == 1
    assert "row was missing and is now there" in result.out


def test_times_and_columns_of_one_run_alone_are_left_out_and_that_is_said(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS).code == 0
    rows = (RUN / "metrics.csv").read_text().splitlines()
    more = [rows[0] + ",samples_per_second,mine", *(f"{row},{number},1" for number, row in enumerate(rows[1:]))]
    (RUN / "metrics.csv").write_text("\n".join(more) + "\n")
    result = litlab("rerun", "mlp_digits", "--check")
    assert result.code == 0, result.out + result.err
    assert "not compared: columns that only one run has: samples_per_second, mine" in result.out
    rows = (AGAIN / "metrics.csv").read_text().splitlines()
    slower = [rows[0] + ",samples_per_second,mine", *(f"{row},{number + 9},1" for number, row in enumerate(rows[1:]))]
    (AGAIN / "metrics.csv").write_text("\n".join(slower) + "\n")
    found = load_run(AGAIN).compare(RUN)
    assert found.agrees
    assert found.not_compared == ["times and rates: samples_per_second"]


def test_a_tested_run_is_compared_with_its_test_only_if_both_have_one(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS).code == 0
    assert litlab("test", "mlp_digits").code == 0
    result = litlab("rerun", "mlp_digits", "--check")
    assert result.code == 0, result.out + result.err
    assert "not compared: results of test, missing in runs/mlp_digits/1" in result.out
    assert litlab("test", str(AGAIN)).code == 0
    assert load_run(AGAIN).compare(RUN).not_compared == []
    results = json.loads((RUN / "results.json").read_text())
    results[1]["metrics"]["test/loss"] *= 2
    (RUN / "results.json").write_text(json.dumps(results))
    found = load_run(AGAIN).compare(RUN)
    assert found.first is not None
    assert (found.first.place, found.first.name, found.first.apart) == ("results.json, test", "test/loss", 0.5)


def test_code_in_the_working_folder_counts_also_without_git(litlab: Command, workshop: Path) -> None:
    source = "from lit_models import LitMLP\n\n\nclass Mine(LitMLP):\n    pass\n"
    (workshop / "mine.py").write_text(source)
    words = ("--model=mine.Mine", "--model.hidden=[8]")
    first = litlab("fit", *DIGITS, *words)
    assert first.code == 0, first.err
    assert set(environment(RUN)["sources"]) == {"litlab", "mine.py"}
    (workshop / "mine.py").write_text(source + "# a remark\n")
    result = litlab("rerun", "mlp_digits", "--check")
    assert result.code == 0, result.out + result.err
    assert "differs code: mine.py " in result.out

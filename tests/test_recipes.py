"""The recipes of CONTRIBUTING.md, applied to a copy of the packages and run there."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("litlab", "experiments", "lit_models", "datamodules", "callbacks", "configs")
SECTIONS = dict(
    section.split("\n", 1)
    for section in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Recipes\n")[2].split("\n### ")
)
CALL = """\
import sys
from experiments.cli import main

def call(arguments):
    try:
        return main(arguments)
    except SystemExit as end:  # argparse after --help
        return end.code

"""
SMALL = "'--trainer.max_epochs=2', '--trainer.enable_model_summary=false', '--experiment=mine'"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A working folder with a copy of the packages."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def apply(recipe: str, folder: Path) -> None:
    """Write the new files of a recipe, and insert the lines with `+` below the line above them."""
    blocks = re.findall(r"```(?:python|diff)\n(?:# |--- )(\S+)\n(.*?)```", SECTIONS[recipe], re.S)
    assert blocks, recipe
    for name, block in blocks:
        path = folder / name
        if not path.exists():
            path.write_text(block, encoding="utf-8")
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        position = -1
        for line in block.splitlines():
            if line.startswith("+"):
                position += 1
                lines.insert(position, line[1:])
            else:
                assert lines.count(line[1:]) == 1, f"{name} has changed: update the recipe in CONTRIBUTING.md"
                position = lines.index(line[1:])
        path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def litlab(folder: Path, *commands: str, after: str = "") -> list[str]:
    """Run several commands in one process, each given as the arguments of `main`; return what each printed."""
    calls = "".join(f"print('=' * 9, call([{arguments}]), flush=True)\n" for arguments in commands)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LITLAB_RUNS")}
    done = subprocess.run(
        [sys.executable, "-u", "-c", f"{CALL}{calls}{after}"],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    parts = re.split(r"={9} (\d+)\n", done.stdout)
    return [f"{text}exit code {code}" for text, code in zip(parts[0::2], parts[1::2], strict=False)]


def test_a_command_is_one_file_and_one_row(copy: Path) -> None:
    apply("A command", copy)
    (copy / "runs" / "mine" / "0").mkdir(parents=True)
    (copy / "runs" / "mine" / "0" / "config.yaml").touch()
    no_torch = "assert 'torch' not in sys.modules"
    count, overview, page, listed, bash, fish, typo = litlab(
        copy, "'count'", "", "'count', '--help'", "'list', 'commands'", "'completion', 'bash'", "'completion', 'fish'",
        "'coutn'", after=no_torch,
    )  # fmt: skip
    assert count == "1\nexit code 0"
    assert re.search(r"litlab count +print the number of runs", overview)
    assert "Print the number of runs." in page
    assert re.search(r"  count +print the number of runs", listed)
    assert " count " in bash
    assert " count " in fish
    assert "Did you mean count?" in typo


def test_a_run_command_completes_runs(copy: Path) -> None:
    table = copy / "experiments/options/command_table.py"
    row = '    Command("info", "'
    table.write_text(table.read_text().replace(row, f'    Command("export", "RUN", "export a run", "run"),\n{row}'))
    bash, fish = litlab(copy, "'completion', 'bash'", "'completion', 'fish'")
    assert '|export) words="$(cd' in bash
    assert ' export" -a "(ls ' in fish


@pytest.mark.slow
def test_a_run_option_is_one_field(copy: Path) -> None:
    apply("A run option", copy)
    (copy / "mine.yaml").write_text("note: from the file\n")
    everything, merged, given, bash, typo = litlab(
        copy, "'fit', '--help-all'", "'fit', 'mlp_digits', 'mine.yaml', '--print_config'",
        "'fit', 'mlp_digits', 'mine.yaml', '--note', 'typed', '--print_config'", "'completion', 'bash'",
        "'fit', 'mlp_digits', '--noet=x'",
    )  # fmt: skip
    assert re.search(r"--note NOTE +Text about the run, stored in config.yaml. \(type: str, default: \)", everything)
    assert "note: from the file" in merged
    assert "note: typed" in given
    assert " --note " in bash
    assert "Did you mean --note?" in typo


@pytest.mark.slow
def test_a_metric_is_one_row(copy: Path) -> None:
    apply("A metric", copy)
    fitted, typo = litlab(
        copy, f"'fit', 'mlp_sine', '--model.metrics=[mape]', '--monitor=val/mape', {SMALL}",
        "'fit', 'mlp_sine', '--model.metrics=[mapee]', '--experiment=typo'",
    )  # fmt: skip
    assert "exit code 0" in fitted
    assert "Did you mean mape?" in typo
    with (copy / "runs/mine/0/metrics.csv").open(newline="") as file:
        assert {"train/mape", "val/mape"} <= set(csv.DictReader(file).fieldnames or ())
    assert "mode: min" in (copy / "runs/mine/0/config.yaml").read_text()


@pytest.mark.slow
def test_a_callback_is_one_file_and_its_export(copy: Path) -> None:
    apply("A callback", copy)
    listed, fitted, typo = litlab(
        copy, "'list', 'callbacks'", f"'fit', 'mlp_sine', '--trainer.callbacks+=LearningGap', {SMALL}",
        "'fit', 'mlp_sine', '--trainer.callbacks+=LearningGpa'",
    )  # fmt: skip
    assert re.search(r"  LearningGap +Callback that logs `gap`", listed)
    assert "exit code 0" in fitted
    assert "Did you mean LearningGap?" in typo
    with (copy / "runs/mine/0/metrics.csv").open(newline="") as file:
        assert "gap" in (csv.DictReader(file).fieldnames or ())


@pytest.mark.slow
def test_a_dataset_is_one_file_and_its_export(copy: Path) -> None:
    apply("A dataset", copy)
    listed, fitted, tested = litlab(
        copy, "'list', 'data'", f"'fit', '--data=XorDataModule', '--model=LitMLP', {SMALL}", "'test', 'mine'"
    )
    assert re.search(r"  XorDataModule +Points", listed)
    assert "exit code 0" in fitted
    assert "exit code 0" in tested


def test_each_recipe_is_held_true() -> None:
    tested = re.findall(r'apply\("(.+?)", copy\)', Path(__file__).read_text(encoding="utf-8"))
    assert sorted(tested) == sorted(name for name in SECTIONS if name.startswith("A "))

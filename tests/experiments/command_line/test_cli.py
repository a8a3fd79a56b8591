"""What needs no torch answers without it, and mistakes in the first words are told in a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.command_line.read_request import read_request
from experiments.options.command_table import COMMANDS
from experiments.runs import find
from experiments.runs.find import runs_dir
from experiments.runs.folder import RunFolder
from tests.experiments.conftest import Command

TORCH_FREE = [
    [],
    ["--help"],
    ["--version"],
    ["list"],
    ["list", "models", "callbacks"],
    ["fit", "--help"],
    ["test", "--help"],
    ["completion", "bash"],
    ["fti"],
    ["fit", "mlp_digit"],
]


@pytest.mark.parametrize("words", TORCH_FREE, ids=lambda words: " ".join(words) or "litlab")
def test_no_torch_is_imported(words: list[str]) -> None:
    code = f"import sys; from experiments.cli import main; main({words!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_importing_the_python_api_imports_no_torch() -> None:
    code = "import sys; import experiments; print('torch' in sys.modules, experiments.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False 0.")


def test_the_first_screen_names_commands_configs_models_data_and_examples(litlab: Command) -> None:
    result = litlab()
    assert result.code == 0
    assert len(result.out.splitlines()) <= 40
    for word in ("fit", "predict", "cnn_fashion_mnist", "LitLSTM", "DigitsDataModule", "examples", "\n  litlab fit\n"):
        assert word in result.out
    assert litlab("--help").out == result.out


def test_help_and_a_command_shows_the_help_of_the_command(litlab: Command) -> None:
    assert litlab("help").out == litlab("--help").out
    assert litlab("help", "fit").out == litlab("fit", "--help").out
    assert "Did you mean fit?" in litlab("help", "fti").sentence


def test_an_option_after_help_of_a_class_is_not_its_name() -> None:
    request = read_request(COMMANDS["fit"], ["--trainer.callbacks.help", "--debug", "--model.help", "LitMLP"])
    assert request.debug
    assert request.actions == ["--trainer.callbacks.help", "--model.help=LitMLP"]


def test_list_shows_every_kind_with_a_line_about_each(litlab: Command) -> None:
    result = litlab("list")
    assert result.code == 0
    for word in ("mlp_digits", "LitResNet", "SineDataModule", "GeneratedText", "none yet"):
        assert word in result.out
    assert "LitTask" not in result.out, "a base class is nothing to type"
    models = litlab("list", "models").out
    assert "SineDataModule" not in models
    for line in models.splitlines()[1:]:
        assert len(line.split(maxsplit=1)) == 2, f"{line!r} says nothing about itself"


def test_every_option_on_the_help_screen_exists(litlab: Command) -> None:
    import re

    everything = litlab("fit", "--help-all").out + litlab("fit", "--model.help", "LitMLP").out
    everything += litlab("fit", "--data.help", "MNISTDataModule").out
    screen = litlab("fit", "--help")
    assert screen.code == 0
    assert len(screen.out.splitlines()) <= 60
    front_end = {"--help-all", "--debug", "--ckpt_path", "--model.help", "--data.help", "--trainer.callbacks.help"}
    for option in set(re.findall(r"--[a-z_]+(?:\.[a-z_0-9]+)*", screen.out)) - front_end:
        if option in ("--model.optimizer.lr", "--trainer.callbacks.OPTION"):
            continue
        assert option in everything, option


def test_a_file_of_the_working_folder_beats_a_shipped_name_and_that_is_said(workshop: Path, litlab: Command) -> None:
    (workshop / "mlp_digits.yaml").write_text("nonsense: 1\n")
    result = litlab("fit", "mlp_digits")
    assert result.code == 2
    assert "using mlp_digits.yaml of this folder" in result.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_verbs_configs_and_options(litlab: Command, shell: str) -> None:
    script = litlab("completion", shell).out
    for word in ("validate", "cnn_fashion_mnist", "--trainer.max_epochs", "--model.optimizer", "--data.batch_size"):
        assert word in script


def test_completion_runs_in_bash(litlab: Command, tmp_path: Path) -> None:
    script = tmp_path / "litlab.sh"
    script.write_text(litlab("completion", "bash").out)
    typed = "COMP_WORDS=(litlab fit mlp_d); COMP_CWORD=2; _litlab; echo ${COMPREPLY[@]}"
    done = subprocess.run(["bash", "-c", f"source {script}; {typed}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["mlp_digits"]


def test_info_tells_versions_devices_and_data(litlab: Command, tiny_data: Path) -> None:
    result = litlab("info")
    assert result.code == 0
    for word in ("torch", "lightning", "cores", f"found in {tiny_data}", "digits"):
        assert word in result.out


def test_a_runs_folder_that_cannot_be_read_is_a_user_error(litlab: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITLAB_RUNS_DIR", "a" * 300)  # longer than any file system allows
    result = litlab("list", "runs")
    assert result.code == 2
    assert "cannot be read (File name too long). Set another folder" in result.sentence


def test_runs_with_weights_are_found_by_the_file_name_of_the_best_checkpoint(tmp_path: Path) -> None:
    assert tmp_path / find._BEST == RunFolder(tmp_path).best


def test_the_home_folder_may_be_short_in_the_runs_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LITLAB_RUNS_DIR", "~/mine")
    assert runs_dir() == tmp_path / "mine"

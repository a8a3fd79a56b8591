"""The mapping that merge() makes of config files and options, by examples, and its errors."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import Callback

from experiments.command_line.lightning_cli import LitlabCLI
from experiments.command_line.read_request import read_request
from experiments.command_line.trainer import LitlabTrainer
from experiments.commands.trainer_command import make_command
from experiments.messages.errors import UserError
from experiments.options import catalog
from experiments.options.command_table import COMMANDS
from experiments.options.merge import merge
from experiments.options.request import Request
from tests.experiments.conftest import Command

FRAGMENTS = ("debug", "cpu_two_processes", "dashboards")
BASE = """\
seed_everything: 1
data: {class_path: DigitsDataModule, init_args: {batch_size: 8}}
model: {class_path: LitMLP, init_args: {hidden: [4], dropout: 0.1, optimizer: {name: sgd, lr: 0.5}}}
trainer: {max_epochs: 2, callbacks: [Gradients]}
"""


class AnyArguments(Callback):
    """Accepts whatever it is given."""

    def __init__(self, depth: int = 1, **kwargs: Any) -> None:
        super().__init__()


class PassedOn(AnyArguments):
    """Hands `**kwargs` on to a base that accepts anything."""

    def __init__(self, width: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Needy(Callback):
    """Has a required argument."""

    def __init__(self, size: int) -> None:
        super().__init__()


@pytest.fixture
def files(workshop: Path) -> Path:
    """A working folder with the file base.yaml."""
    (workshop / "base.yaml").write_text(BASE)
    return workshop


def merged(words: str, *documents: str) -> dict[str, Any]:
    """The mapping of base.yaml, further files and options."""
    files = ["base.yaml"]
    for number, document in enumerate(documents):
        files.append(f"{number}.yaml")
        Path(files[-1]).write_text(document)
    return merge(read_request(COMMANDS["fit"], [*files, *shlex.split(words)]), LitlabTrainer)


def at(content: Any, name: str) -> Any:
    """The value at a dotted name; a digit is a position in a list."""
    for key in name.split("."):
        content = content[int(key)] if isinstance(content, list) else content[key]
    return content


ARGUMENTS = "model.init_args"
SGD = {"optimizer": {"name": "sgd", "lr": 0.5}}
CASES: list[tuple[str, list[str], str, Any]] = [
    # Files and options
    ("", ["seed_everything: 2", "seed_everything: 3"], "seed_everything", 3),
    ("--seed_everything 4", ["seed_everything: 2"], "seed_everything", "4"),
    ("", ["trainer: {max_epochs: 9}"], "trainer", {"max_epochs": 9, "callbacks": ["Gradients"]}),
    ("", ["model: {init_args: {hidden: [7]}}"], f"{ARGUMENTS}.hidden", [7]),
    ("", ["model: {init_args: {hidden: [7]}}"], f"{ARGUMENTS}.dropout", 0.1),
    ("--model.hidden [9]", ["model: {init_args: {hidden: [7]}}"], f"{ARGUMENTS}.hidden", "[9]"),
    ("--model.hidden+=8", [], f"{ARGUMENTS}.hidden", [4, "8"]),
    ("", ["model: {init_args: {hidden+: [8]}}"], f"{ARGUMENTS}.hidden", [4, 8]),
    # Names of arguments and classes
    ("--data.init_args.batch_size 3", [], "data.init_args.batch_size", "3"),
    ("--data.batch_size 3", [], "data.init_args.batch_size", "3"),
    ("--data.init_args '{val_split: 0.3}'", [], "data.init_args", {"batch_size": 8, "val_split": 0.3}),
    ("--model.class_path lit_models.LitCNN", [], "model.class_path", "lit_models.LitCNN"),
    ("--model lit_models.LitMLP", [], f"{ARGUMENTS}.hidden", [4]),
    ("--trainer.max_time.hours 1", [], "trainer.max_time", {"hours": 1}),
    ("--trainer.max_time.hours 1 --trainer.max_time.minutes=30", [], "trainer.max_time", {"hours": 1, "minutes": 30}),
    ("--trainer.devices 2", [], "trainer.devices", 2),
    ("--trainer.precision 16", [], "trainer.precision", 16),
    ("--trainer.default_root_dir 5", [], "trainer.default_root_dir", "5"),
    ("--trainer.devices auto", [], "trainer.devices", "auto"),
    # Another class keeps arguments of the same name with a type in common
    ("--model LitCNN", [], "model.init_args", {"hidden": [4], "dropout": 0.1, **SGD}),
    ("", ["model: LitCNN"], f"{ARGUMENTS}.dropout", 0.1),
    ("--model LitLSTM", [], "model.init_args", {"dropout": 0.1, **SGD}),
    ("--data SineDataModule", [], "data", {"class_path": "SineDataModule", "init_args": {"batch_size": 8}}),
    ("--model.variant deep --model LitCNN", [], f"{ARGUMENTS}.variant", "deep"),
    # Components
    ("--model.optimizer.lr 0.1", [], f"{ARGUMENTS}.optimizer", {"name": "sgd", "lr": 0.1}),
    ("--model.optimizer.init_args.lr 0.1", [], f"{ARGUMENTS}.optimizer", {"name": "sgd", "lr": 0.1}),
    ("--model.optimizer adam", [], f"{ARGUMENTS}.optimizer", "adam"),
    ("--model.optimizer.lr 0.1 --model.optimizer adam", [], f"{ARGUMENTS}.optimizer", {"name": "adam", "lr": 0.1}),
    ("--model.scheduler cosine --model.scheduler.warmup 1", [], f"{ARGUMENTS}.scheduler",
     {"name": "cosine", "warmup": 1}),
    ("--model.loss.label_smoothing 0.1", [], f"{ARGUMENTS}.loss", {"name": "cross_entropy", "label_smoothing": 0.1}),
    # Callbacks
    ("--trainer.callbacks+=Weights", [], "trainer.callbacks", ["Gradients", "Weights"]),
    ("", ["trainer: {callbacks+: Weights}"], "trainer.callbacks", ["Gradients", "Weights"]),
    ("", ["trainer: {callbacks+: [Weights, ModelGraph]}"], "trainer.callbacks", ["Gradients", "Weights", "ModelGraph"]),
    ("", ["trainer: {callbacks+: [Weights], callbacks: [ModelGraph]}"], "trainer.callbacks", ["ModelGraph", "Weights"]),
    ("--trainer.callbacks.every_n_steps 5", [], "trainer.callbacks.0",
     {"class_path": "Gradients", "init_args": {"every_n_steps": "5"}}),
    ("--trainer.callbacks+=Gradients --trainer.callbacks.every_n_steps 5", [], "trainer.callbacks.0", "Gradients"),
    ("--trainer.callbacks+=Gradients --trainer.callbacks.every_n_steps 5", [], "trainer.callbacks.1.init_args",
     {"every_n_steps": "5"}),
    ("--trainer.callbacks '[Weights]'", [], "trainer.callbacks", ["Weights"]),
    ("--trainer.callbacks null", [], "trainer.callbacks", "null"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "documents", "name", "expected"), CASES, ids=lambda case: str(case)[:60])
def test_merged(words: str, documents: list[str], name: str, expected: Any, files: Path) -> None:
    assert at(merged(words, *documents), name) == expected


def test_a_section_may_be_in_a_file_of_its_own(files: Path) -> None:
    (files / "net.yaml").write_text("class_path: LitCNN\ninit_args: {variant: deep}\n")
    (files / "short.yaml").write_text("max_epochs: 7\n")
    expected = {"hidden": [4], "dropout": 0.1, **SGD, "variant": "deep"}
    assert merged("", "model: net.yaml")["model"] == {"class_path": "LitCNN", "init_args": expected}
    assert merged("--model net.yaml")["model"] == {"class_path": "LitCNN", "init_args": expected}
    found = merged("--trainer.max_steps 3 --trainer.max_epochs 5 --trainer short.yaml")["trainer"]
    assert found == {"max_epochs": 5, "max_steps": 3, "callbacks": ["Gradients"]}, "options beat files"
    (files / "short.yaml").write_text("callbacks+: [Weights]\n")
    assert merged("--trainer short.yaml")["trainer"]["callbacks"] == ["Gradients", "Weights"]


def test_dropped_callbacks_are_reported(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    merged("", "trainer: {callbacks: [Weights]}")
    reported = capsys.readouterr().err
    assert "callbacks: 0.yaml replaces the list and drops Gradients. Use `callbacks+:` to add" in reported
    merged("--trainer.callbacks Weights")
    said = capsys.readouterr().err
    assert "--trainer.callbacks replaces the list and drops Gradients. Use `--trainer.callbacks+=` to add" in said
    merged("--trainer.callbacks+=Weights", "trainer: {callbacks: [callbacks.Gradients, Weights]}")
    assert "drops" not in capsys.readouterr().err


def test_arguments_that_a_new_model_inherits_are_reported(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "base.yaml").write_text(BASE.replace("{hidden: [4],", "{hidden: [4], l2: 0.1,"))
    merged("--model LitLogisticRegression")
    said = capsys.readouterr().err
    assert said.startswith("model: LitLogisticRegression keeps arguments of LitMLP: l2 0.1, optimizer {'name': 'sgd'")
    assert "hidden" not in said
    assert len(said.splitlines()) == 1
    merged("--model LitMLP")
    merged("--model lit_models.LitMLP")
    merged("", "model: {class_path: LitLogisticRegression, init_args: {l2: 0, optimizer: adam}}\n")
    assert "keeps arguments" not in capsys.readouterr().err


def test_the_file_itself_is_not_changed_and_merging_is_repeatable(files: Path) -> None:
    request = read_request(
        COMMANDS["fit"], ["base.yaml", "--trainer.callbacks.every_n_steps=5", "--model.optimizer.lr=1"]
    )
    assert merge(request, LitlabTrainer) == merge(request, LitlabTrainer)


OWN = "tests.experiments.options.test_merge"
ERRORS: list[tuple[str, str, tuple[str, ...]]] = [
    # Unknown keys in files, on every level
    ("", "seed_everthing: 2", ("0.yaml: 'seed_everthing' is not a key.", "Did you mean seed_everything?")),
    ("", "trainer: {max_epoch: 2}", ("'trainer.max_epoch' is not a key.", "Did you mean trainer.max_epochs?")),
    ("", "model: {init_args: {hiden: [2]}}", ("LitMLP has no argument 'hiden'.", "Did you mean hidden?")),
    ("", "data: {init_args: {batchsize: 2}}",
     ("DigitsDataModule has no argument 'batchsize'.", "Did you mean batch_size?")),
    ("", "trainer: {callbacks: [{class_path: Gradients, init_args: {every_n_step: 1}}]}",
     ("Gradients has no argument 'every_n_step'.", "Did you mean every_n_steps?")),
    ("", "model: {class_path: LitMPL}", ("unknown class 'LitMPL'.", "Did you mean LitMLP?")),
    ("", "trainer: {callbacks+: [Gradient]}", ("unknown class 'Gradient'.", "Did you mean Gradients?")),
    ("", "model: {class_path: LitCNN, hidden: [3]}", ("'hidden' must be under `init_args:`",)),
    ("", "trainer: {1: 2}", ("'trainer.1' is not a key.", "--help-all")),
    ("", "trainer: {callbacks: [{class_path: Gradients, init_args: {1: 2}}]}", ("Gradients has no argument '1'.",)),
    # The same in options
    ("--seed_everthing 2", "", ("'--seed_everthing' is not an option.", "Did you mean --seed_everything?")),
    ("--trainer.max_epoch 2", "", ("'--trainer.max_epoch' is not an option.", "Did you mean --trainer.max_epochs?")),
    ("--max_epochs 2", "", ("'--max_epochs' is not an option.", "Did you mean --trainer.max_epochs?")),
    ("--confg x", "", ("'--confg' is not an option.", "Did you mean --config?")),
    ("--help-al x", "", ("'--help-al' is not an option.", "Did you mean --help-all?")),
    ("--model.hiden [2]", "", ("LitMLP has no argument 'hiden'.", "Did you mean hidden?")),
    ("--data.batchsize 2", "", ("DigitsDataModule has no argument 'batchsize'.", "Did you mean batch_size?")),
    ("--trainer.callbacks.every_n_step 2", "",
     ("Gradients has no argument 'every_n_step'.", "Did you mean every_n_steps?")),
    ("--model LitMPL", "", ("unknown class 'LitMPL'.", "Did you mean LitMLP?")),
    ("--data DigitDataModule", "", ("unknown class 'DigitDataModule'.", "Did you mean DigitsDataModule?")),
    ("--trainer.callbacks+=Gradient", "", ("unknown class 'Gradient'.", "Did you mean Gradients?")),
    # Missing and misplaced
    (f"--trainer.callbacks+={OWN}.Needy", "", ("Needy needs size.", "Set --trainer.callbacks.size VALUE.")),
    (f"--model {OWN}.AnyArguments", "", ("is not a LightningModule.", "derives from it")),
    ("--trainer.callbacks.every_n_steps 5", "trainer: {callbacks: []}",
     ("no callback", "every_n_steps", "--trainer.callbacks+=NAME")),
    ("--data.init_args 5", "", ("data.init_args must be a mapping, got '5'.", "--data.NAME VALUE")),
    ("--trainer 5", "", ("trainer: '5' is not a config file.", "--trainer.max_epochs 5")),
    # Text that is not YAML
    ("--model.hidden+=[1", "", ("hidden: '[1' is not valid YAML.", "brackets")),
    ("--model.optimizer.lr '[1'", "", ("optimizer: '[1' is not valid YAML.", "brackets")),
    ("--model.optimizer.lr '!!int x'", "", ("'!!int x' is not valid YAML.",)),
]  # fmt: skip


@pytest.mark.parametrize(("words", "document", "parts"), ERRORS, ids=lambda case: str(case)[:60])
def test_errors(words: str, document: str, parts: tuple[str, ...], files: Path) -> None:
    with pytest.raises(UserError) as caught:
        merged(words, *([document] if document else []))
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("words", ["--trainer.max_epochs=--5", "--trainer.max_epochs=²"])
def test_what_is_almost_a_number_stays_text_for_the_parser(words: str, files: Path) -> None:
    assert merged(words)["trainer"]["max_epochs"] == words.partition("=")[2]


@pytest.mark.parametrize("section", ["model", "data"])
def test_a_config_without_a_section_says_how_to_name_one(section: str, files: Path) -> None:
    content = yaml.safe_load(BASE)
    del content[section]
    (files / "base.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=f"{section} is missing.*--{section} NAME"):
        merged("")
    with pytest.raises(UserError, match=f"no {section} is named.*--{section} NAME"):
        merged(f"--{section}.x 1")


def test_arguments_that_kwargs_accept_are_not_checked(files: Path) -> None:
    for name in ("AnyArguments", "PassedOn"):
        callback = f"{{class_path: {OWN}.{name}, init_args: {{anything: 1, depth: 2}}}}"
        (entry,) = merged("", f"trainer: {{callbacks: [{callback}]}}")["trainer"]["callbacks"]
        assert entry["init_args"] == {"anything": 1, "depth": 2}


class Parsed(LitlabCLI):
    """The command line without building model, data and Trainer."""

    def instantiate_classes(self) -> None:
        """Build nothing."""


def parsed(request: Request) -> Parsed:
    """The request, merged and parsed by the real parser."""
    return Parsed(make_command(request))


@pytest.mark.parametrize("name", [entry.name for entry in catalog.configs() if entry.name not in FRAGMENTS])
def test_a_shipped_config_is_parsed_as_jsonargparse_parses_the_file(name: str, workshop: Path) -> None:
    cli = parsed(read_request(COMMANDS["fit"], [name]))
    alone = cli.parser.parse_args([f"--config={cli.request.configs[0]}"])
    alone.pop("config")
    assert cli.parser.dump(cli.config, skip_none=False) == cli.parser.dump(alone, skip_none=False)


def test_print_config_prints_what_config_yaml_holds(litlab: Command) -> None:
    words = ["mlp_digits", "--model.optimizer", "sgd", "--model.optimizer.lr", "0.1", "--trainer.max_time.hours=1"]
    words += ["--trainer.callbacks+=Gradients", "--trainer.callbacks.every_n_steps=5", "--experiment=007"]
    printed = yaml.safe_load(litlab("fit", *words, "--print_config").out)
    stored = yaml.safe_load(parsed(read_request(COMMANDS["fit"], words)).config_text())
    assert printed == stored
    assert list(stored)[-7:] == ["channels_last", "threads", "compile", "steps_per_call", "data", "model", "trainer"]

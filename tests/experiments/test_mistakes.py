"""A user's mistake ends with one clear sentence, exit code 2, no traceback and no half-made run folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from experiments import load_run
from tests.experiments.conftest import Command

MNIST = ["--data=MNISTDataModule", "--data.val_split=0.2", "--data.download=false"]

# words after `fit`, parts of the sentence
MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "unknown option": (["--foo", "3"], ["--foo", "is not an option"]),
    "typo in a trainer option": (
        ["--trainer.max_epoch", "3"],
        ["--trainer.max_epoch'", "Did you mean --trainer.max_epochs?"],
    ),
    "typo in a model option": (["--model.hiden", "[3]"], ["LitMLP has no setting 'hiden'", "Did you mean hidden?"]),
    "typo in a data option": (
        ["--data.batchsize", "3"],
        ["DigitsDataModule has no setting", "Did you mean batch_size?"],
    ),
    "unknown model": (
        ["--model", "LitCN"],
        ["model: 'LitCN' is not known", "Did you mean LitCNN?", "litlab list models"],
    ),
    "unknown data": (
        ["--data", "MNISTDataModul"],
        ["data: 'MNISTDataModul' is not known", "Did you mean MNISTDataModule?"],
    ),
    "unknown callback": (
        ["--trainer.callbacks+=EarlyStoping"],
        ["callback: 'EarlyStoping' is not known", "Did you mean EarlyStopping?"],
    ),
    "no such module": (["--model", "no_such.Net"], ["model", "no_such.Net", "cannot be imported"]),
    "wrong type": (
        ["--trainer.max_epochs", "many"],
        ["trainer.max_epochs", "'many' is not possible", "a whole number"],
    ),
    "wrong type in the model": (["--model.dropout", "much"], ["model.dropout", "'much' is not possible", "a number"]),
    "unknown monitor": (["--monitor", "val/accuracy"], ["val/accuracy", "Did you mean val/acc?"]),
    "unknown train monitor": (["--monitor", "train/accuracy"], ["train/accuracy", "Did you mean"]),
    "unknown optimizer": (["--model.optimizer", "adamm"], ["optimizer: 'adamm' is not known", "Did you mean adam?"]),
    "unknown optimizer setting": (["--model.optimizer.lrr", "1"], ["optimizer", "'lrr'", "Did you mean lr?"]),
    "negative learning rate": (["--model.optimizer.lr", "-1"], ["optimizer", "-1"]),
    "unknown schedule": (["--model.scheduler", "cosin"], ["scheduler: 'cosin' is not known", "Did you mean cosine?"]),
    "unknown loss": (["--model.loss", "mse"], ["loss", "mse"]),
    "unknown activation": (["--model.activation", "rellu"], ["rellu", "Did you mean relu?"]),
    "unknown initialisation": (["--model.init", "xavir_uniform"], ["xavir_uniform", "xavier_uniform"]),
    "batch size 0": (["--data.batch_size", "0"], ["batch_size: 0"]),
    "validation asked for and empty": (["--data.val_split", "0.0001"], ["val_split"]),
    "validation larger than the data": (["--data.val_split", "5000"], ["val_split"]),
    "num_classes contradicts the data": (
        ["--model.num_classes", "7"],
        ["num_classes: 7", "DigitsDataModule has num_classes = 10"],
    ),
    "classifier on numbers": (
        ["--data=SineDataModule", "--data.stratify=false"],
        ["LitMLP is a classifier", "SineDataModule", "LitMLPRegressor"],
    ),
    "regressor on classes": (
        ["--model", "LitLinearRegression"],
        ["LitLinearRegression is a regressor", "DigitsDataModule"],
    ),
    "image model without images": (["--model", "LitCNN", "--data", "MoonsDataModule"], ["LitCNN", "image"]),
    "image classifier on text": (
        ["--data=TextDataModule", "--data.stratify=false"],
        ["LitMLP", "TextDataModule", "LitTokenLSTM"],
    ),
    "text model without text": (["--model", "LitTokenLSTM"], ["LitTokenLSTM reads text", "DigitsDataModule"]),
    "seed no number": (["--seed_everything", "abc"], ["seed_everything", "abc"]),
    "seed a fraction": (["--seed_everything", "1.5"], ["seed_everything", "1.5"]),
    "seed true": (["--seed_everything", "true"], ["seed_everything", "True"]),
    "seed negative": (["--seed_everything", "-1"], ["seed_everything", "-1"]),
    "patience 0": (["--patience", "0"], ["patience"]),
    "unknown accelerator": (["--trainer.accelerator", "tpux"], ["tpux"]),
    "half precision on a CPU": (
        ["--trainer.accelerator=cpu", "--trainer.precision=16-true"],
        ["16-true", "bf16-mixed"],
    ),
    "experiment is no folder name": (["--experiment", "a/b"], ["experiment", "a/b"]),
    "a choice that is none": (["--mode", "up"], ["mode: 'up' is not possible; expected min or max"]),
    "a variant that is none": (
        ["--model=LitCNN", "--model.variant=lenet"],
        ["model.variant: 'lenet'", "Did you mean lenet5?"],
    ),
    "no accumulation": (["--trainer.accumulate_grad_batches=0"], ["accumulate_grad_batches: 0"]),
    "validation every 0 epochs": (["--trainer.check_val_every_n_epoch=0"], ["check_val_every_n_epoch: 0"]),
    "an interval that no epoch reaches": (["--trainer.val_check_interval=50"], ["val_check_interval", "36 batches"]),
    "an accelerator that is not there": (["--trainer.accelerator=tpu"], ["trainer"]),
    "barebones": (["--trainer.barebones=true"], ["barebones", "--trainer.logger false"]),
    "a root of its own": (["--trainer.default_root_dir=x"], ["LITLAB_RUNS_DIR"]),
    "a value missing at the end": (["--data.batch_size"], ["--data.batch_size needs a value"]),
    "a value missing in the middle": (
        ["--model.optimizer", "--trainer.max_epochs=1"],
        ["--model.optimizer needs a value"],
    ),
    "a start from nothing": (["--ckpt_path=no.ckpt"], ["no.ckpt is not there"]),
    "two words too many": (["--trainer.max_epochs=1", "mlp_mnist"], ["mlp_mnist"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_fit(name: str, litlab: Command, workshop: Path) -> None:
    words, parts = MISTAKES[name]
    result = litlab("fit", *words)
    assert result.code == 2, result.err
    for part in parts:
        assert part in result.sentence
    assert "\n" not in result.sentence
    assert len(result.sentence) < 700
    assert not [path for path in workshop.rglob("*") if path.name != "runs"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("model: [", ["bad.yaml is not valid YAML"]),
        ("- a\n- b\n", ["bad.yaml holds no settings"]),
        ("modl:\n  class_path: LitMLP\n", ["'modl' is not a setting", "Did you mean model"]),
        ("trainer: {max_epoch: 3}\n", ["'max_epoch' is not a setting", "Did you mean trainer.max_epochs?"]),
        ("model:\n  class_path: LitMLP\n  init_args: {hiden: [3]}\n", ["LitMLP has no setting 'hiden'"]),
        ("data:\n  class_path: DigitsDataModule\n", ["model is missing"]),
        ("trainer:\ndata: DigitsDataModule\nmodel: LitMLP\n", ["`trainer:` in bad.yaml is empty"]),
        ("data: DigitsDataModule\nmodel: {class_path: LitMLP, hidden: [3]}\n", ["settings stand under init_args"]),
        ("", ["bad.yaml holds no settings"]),
        (
            "model:\n  class_path: LitMLP\ndata:\n  class_path: DigitsDataModule\ntrainer: {max_epochs: x}\n",
            ["trainer.max_epochs"],
        ),
    ],
)
def test_a_mistake_in_a_config(text: str, parts: list[str], litlab: Command, workshop: Path) -> None:
    (workshop / "bad.yaml").write_text(text)
    result = litlab("fit", "bad.yaml")
    assert result.code == 2, result.err
    for part in parts:
        assert part in result.sentence
    assert not (workshop / "runs").exists()


def test_missing_data_without_network_says_what_where_and_how(litlab: Command, workshop: Path) -> None:
    result = litlab("fit", *MNIST, "--data.data_dir=nowhere")
    assert result.code == 2
    for part in ("MNIST", "train-images-idx3-ubyte", "nowhere", "LITLAB_DATA_DIR"):
        assert part in result.sentence
    assert not (workshop / "runs").exists()


def test_a_read_only_data_folder_works(litlab: Command, tiny_data: Path) -> None:
    for path in (tiny_data, *tiny_data.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert litlab("fit", *MNIST, "--trainer.max_epochs=1").code == 0
    finally:
        for path in (tiny_data, *tiny_data.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize("verb", ["test", "validate", "predict"])
def test_without_weights_it_refuses(verb: str, litlab: Command, workshop: Path) -> None:
    for words in ([], ["--config", "mlp_digits"]):
        result = litlab(verb, *words)
        assert result.code == 2
        assert f"{verb}: which weights?" in result.sentence
        assert "--untrained" in result.sentence
    result = litlab(verb, "--ckpt_path", "no.ckpt")
    assert result.code == 2
    assert "no.ckpt is not there" in result.sentence
    assert list(workshop.iterdir()) == []


def test_untrained_weights_are_scored_on_purpose_and_named(litlab: Command) -> None:
    result = litlab("test", "--config", "mlp_digits", "--untrained")
    assert result.code == 0, result.err
    assert "untrained, random weights" in result.out
    assert not Path("runs").exists()


def test_a_fit_without_a_step_leaves_nothing(litlab: Command, workshop: Path) -> None:
    result = litlab("fit", "--trainer.max_epochs=0")
    assert result.code == 0
    assert "Nothing to train" in result.out
    assert not list(workshop.glob("runs/*/*"))


def test_a_run_without_weights_is_passed_over_or_refused(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", "--trainer.max_epochs=1").code == 0
    shutil.copytree("runs/mlp_digits/0", "runs/mlp_digits/1", ignore=shutil.ignore_patterns("*.ckpt"))
    result = litlab("test", "mlp_digits")
    assert result.code == 0
    assert "runs/mlp_digits/1 has no weights yet; using runs/mlp_digits/0" in result.err
    refused = litlab("test", "runs/mlp_digits/1")
    assert refused.code == 2
    assert "has not finished an epoch" in refused.sentence


def test_validating_on_another_split_is_refused(litlab: Command) -> None:
    assert litlab("fit", "--trainer.max_epochs=1").code == 0
    result = litlab("validate", "mlp_digits", "--data.split_seed=7")
    assert result.code == 2
    assert "samples that were learnt" in result.sentence


def test_a_checkpoint_of_another_model(litlab: Command) -> None:
    assert litlab("fit", "--trainer.max_epochs=1").code == 0
    best = load_run("mlp_digits").folder.best
    result = litlab("test", "mlp_digits", "--model.hidden=[8]")
    assert result.code == 2
    assert "belongs to another model" in result.sentence
    assert "128x64 there and 8x64" in result.sentence
    result = litlab("test", "--config", "mlp_digits", "--model", "LitLogisticRegression", "--ckpt_path", str(best))
    assert result.code == 2
    assert "belongs to another model" in result.sentence


def test_a_file_that_is_no_checkpoint_or_would_run_code(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", "--trainer.max_epochs=1").code == 0
    (workshop / "text.ckpt").write_text("hello")
    result = litlab("test", "mlp_digits", "--ckpt_path=text.ckpt")
    assert result.code == 2
    assert "damaged or no checkpoint" in result.sentence
    best = load_run("mlp_digits").folder.best
    (workshop / "cut.ckpt").write_bytes(best.read_bytes()[:5000])
    assert "damaged" in litlab("test", "mlp_digits", "--ckpt_path=cut.ckpt").sentence
    torch.save({"state_dict": {}, "evil": Evil()}, workshop / "evil.ckpt")
    result = litlab("test", "mlp_digits", "--ckpt_path=evil.ckpt")
    assert result.code == 2
    assert "never runs code" in result.sentence
    assert not (workshop / "ran").exists()


class Evil:
    """Would make a file when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("ran"),))  # type: ignore[return-value]


def test_a_nan_loss_fails_with_the_step_and_a_way_out(litlab: Command) -> None:
    words = ["--model.optimizer=sgd", "--model.optimizer.lr=1e30", "--trainer.max_epochs=2"]
    result = litlab("fit", *words)
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "step" in result.err
    assert "learning rate" in result.err


def test_an_unwritable_runs_folder(litlab: Command, workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workshop / "file").write_text("")
    monkeypatch.setenv("LITLAB_RUNS_DIR", str(workshop / "file"))
    result = litlab("fit", "--trainer.max_epochs=1")
    assert result.code == 2
    assert "LITLAB_RUNS_DIR" in result.sentence


def test_debug_shows_the_traceback_of_a_mistake_too(litlab: Command) -> None:
    result = litlab("fit", "--data.batch_size=0", "--debug")
    assert result.code == 2
    assert "Traceback" in result.err


def test_a_fault_of_a_users_module_shows_its_traceback(litlab: Command, workshop: Path) -> None:
    (workshop / "broken_net.py").write_text(
        "from lit_models import LitMLP\n"
        "class Broken(LitMLP):\n    def training_step(self, batch, i):\n        return 1 / 0\n"
    )
    result = litlab("fit", "--model=broken_net.Broken")
    assert result.code == 1
    assert "ZeroDivisionError" in result.err
    shutil.rmtree(workshop / "runs", ignore_errors=True)

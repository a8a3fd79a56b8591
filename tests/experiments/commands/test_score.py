"""What is printed and kept about a figure is what happened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments import load_run
from tests.experiments.conftest import Command

QUIET = ["--trainer.enable_model_summary=false"]


def test_a_limited_test_says_so(litlab: Command) -> None:
    assert litlab("fit", *QUIET, "--trainer.max_epochs=1").code == 0
    result = litlab("test", "mlp_digits", "--trainer.limit_test_batches=1")
    assert "32 samples of 360: limited by trainer.limit_test_batches" in result.out
    record = load_run("mlp_digits").results[-1]
    assert (record["n"], record["limited"]) == (32, True)


def test_a_limited_validation_says_so(litlab: Command) -> None:
    assert litlab("fit", *QUIET, "--trainer.max_epochs=1", "--trainer.limit_val_batches=2").code == 0
    assert load_run("mlp_digits").results[0]["n"] == 64


def test_another_monitor_brings_its_own_direction(litlab: Command) -> None:
    result = litlab("fit", *QUIET, "--monitor=val/loss", "--trainer.max_epochs=3")
    assert result.code == 0, result.err
    assert "mode: min" in load_run("mlp_digits").folder.config.read_text()
    run = load_run("mlp_digits")
    losses = [row["val/loss"] for row in run.metrics if "val/loss" in row]
    assert run.results[0]["epoch"] == losses.index(min(losses))
    assert run.results[0]["metrics"]["val/loss"] == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize("monitor", ["train/loss", "gap/loss"])
def test_a_monitor_of_the_training_part_is_kept_with_the_figures(litlab: Command, monitor: str) -> None:
    result = litlab("fit", *QUIET, f"--monitor={monitor}", "--trainer.max_epochs=2")
    assert result.code == 0, result.err
    assert f"({monitor} " in result.out
    assert monitor in load_run("mlp_digits").results[0]["metrics"]


@pytest.mark.parametrize(
    "words", [["--trainer.max_steps=5"], ["--trainer.check_val_every_n_epoch=3", "--trainer.max_epochs=2"]]
)
def test_best_names_an_epoch_that_was_trained(litlab: Command, words: list[str]) -> None:
    result = litlab("fit", *QUIET, *words)
    assert result.code == 0, result.err
    folder = load_run("mlp_digits").folder
    best, last = (torch.load(path, weights_only=True) for path in (folder.best, folder.last))
    assert best["epoch"] == last["epoch"]
    assert best["global_step"] == last["global_step"]
    assert "weights_only" not in result.out + result.err
    assert litlab("test", "mlp_digits").code == 0


def test_the_figure_is_what_torch_gives_by_hand(litlab: Command) -> None:
    assert litlab("fit", *QUIET, "--trainer.max_epochs=2").code == 0
    assert litlab("test", "mlp_digits").code == 0
    run = load_run("mlp_digits")
    data = run.data
    data.setup("test")
    x, y = (torch.cat(part) for part in zip(*data.test_dataloader(), strict=True))
    with torch.no_grad():
        logits = run.model(x)
    figures = run.results[-1]["metrics"]
    assert figures["test/acc"] == pytest.approx((logits.argmax(1) == y).double().mean().item(), abs=1e-7)
    assert figures["test/loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, y).item(), rel=1e-5)


def test_a_setting_given_before_its_name_counts(litlab: Command) -> None:
    printed = litlab("fit", "--model.optimizer.lr", "0.1", "--model.optimizer", "sgd", "--print_config")
    assert "name: sgd\n" in printed.out
    assert "lr: 0.1\n" in printed.out


def test_an_included_section_keeps_its_optimizer(litlab: Command, workshop: Path) -> None:
    (workshop / "net.yaml").write_text(
        "class_path: LitMLP\ninit_args: {hidden: [8], optimizer: {name: sgd, lr: 1.0}}\n"
    )
    (workshop / "whole.yaml").write_text("model: net.yaml\ndata: {class_path: DigitsDataModule}\n")
    printed = litlab("fit", "whole.yaml", "--model.optimizer.lr=0.5", "--print_config")
    assert printed.code == 0, printed.err
    assert "name: sgd\n" in printed.out
    assert "lr: 0.5\n" in printed.out

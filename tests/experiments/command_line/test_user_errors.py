"""What is beside the table of bad inputs (test_bad_inputs.py): what is legal, what fails, what shows its traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.experiments.conftest import Command

MNIST = ["--data=MNISTDataModule", "--data.val_split=0.2", "--data.download=false"]


def test_a_read_only_data_folder_works(litlab: Command, tiny_data: Path) -> None:
    for path in (tiny_data, *tiny_data.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert litlab("fit", *MNIST, "--trainer.max_epochs=1").code == 0
    finally:
        for path in (tiny_data, *tiny_data.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


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


def test_a_nan_loss_fails_with_the_step_and_a_way_out(litlab: Command) -> None:
    words = ["--model.optimizer=sgd", "--model.optimizer.lr=1e30", "--trainer.max_epochs=2"]
    result = litlab("fit", *words)
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "step" in result.err
    assert "learning rate" in result.err


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

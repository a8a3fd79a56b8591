"""`from experiments import fit, load_run`: the same runs, in the same folders, as from the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import TrainingFailed
from datamodules import DigitsDataModule
from experiments import fit, load_run
from experiments.messages.errors import FailedElsewhere, RunBusy, RunLost, as_misconfiguration
from lit_models import LitMLP
from tests.experiments.commands.test_fit import QUICK, last_losses
from tests.experiments.conftest import Command


def test_fit_from_python_is_the_same_run(workshop: Path, litlab: Command) -> None:
    run = fit("mlp_digits", overrides={"model.hidden": [16]}, max_epochs=2, enable_model_summary=False)
    assert run.path == workshop / "runs/mlp_digits/0"
    assert litlab("fit", *QUICK, "--model.hidden=[16]").code == 0
    assert last_losses("runs/mlp_digits/1") == last_losses("runs/mlp_digits/0")
    model = run.model
    assert not model.training
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert run.test()["test/acc"] > 0.5


@pytest.mark.parametrize(
    "optimizer", ["sgd", {"name": "adam", "lr": 0.01}, torch.optim.Adam], ids=["name", "spec", "class"]
)
def test_a_model_built_in_python_loads_as_plain_data_and_tests_from_the_command_line(
    workshop: Path, litlab: Command, optimizer: object
) -> None:
    model = LitMLP(input_shape=(1, 8, 8), num_classes=10, hidden=(16,), optimizer=optimizer)  # type: ignore[arg-type]
    run = fit(model, DigitsDataModule(batch_size=64), experiment="mine", max_epochs=1, enable_progress_bar=False)
    torch.load(run.path / "checkpoints/best.ckpt", weights_only=True)
    again = load_run(workshop / "runs" / "mine" / "0").model
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    result = litlab("test", "mine")
    assert result.code == 0, result.err
    assert litlab("fit", "--config", str(run.path / "config.yaml")).code == 0


@pytest.mark.parametrize("objects", [False, True], ids=["config", "model"])
def test_numbers_of_numpy_and_torch_are_plain_numbers(workshop: Path, objects: bool) -> None:
    model = LitMLP(input_shape=(1, 8, 8), num_classes=10, hidden=(8,))
    given = (model, DigitsDataModule(batch_size=64)) if objects else ("mlp_digits",)
    trainer = {"max_epochs": np.int64(1), "limit_val_batches": torch.tensor(0.5), "enable_progress_bar": np.False_}
    run = fit(*given, seed=np.int64(3), threads=np.int64(1), enable_model_summary=False, **trainer)
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    assert (config["seed_everything"], config["threads"], config["trainer"]["max_epochs"]) == (3, 1, 1)
    assert (config["trainer"]["limit_val_batches"], config["trainer"]["enable_progress_bar"]) == (0.5, False)


def test_callbacks_made_in_python_are_added(workshop: Path) -> None:
    stopping = EarlyStopping("val/loss", patience=1)
    fit("mlp_digits", callbacks=[stopping], max_epochs=1, enable_model_summary=False)
    assert stopping.best_score < 1


def test_hyper_parameters_that_could_not_be_loaded_again_are_refused_before_training(workshop: Path) -> None:
    class Odd(LightningModule):
        def __init__(self, function: object) -> None:
            super().__init__()
            self.save_hyperparameters()

    with pytest.raises(MisconfigurationException, match="'function' must be plain data"):
        fit(Odd(DigitsDataModule), DigitsDataModule(), experiment="odd", max_epochs=1)
    assert not (workshop / "runs").exists()


@pytest.mark.slow
def test_importing_fit_imports_no_torch_and_a_users_own_folders_do_not_get_in_the_way(workshop: Path) -> None:
    for name in ("configs", "datamodules"):
        (workshop / name).mkdir()
        (workshop / name / "mine.yaml").write_text("")
    (workshop / "callbacks.py").write_text("raise RuntimeError('not litlab's')\n")
    code = (
        "import sys; from experiments import fit, load_run; print('torch' in sys.modules); "
        "run = fit('mlp_digits', max_epochs=1); print(run.model(__import__('torch').zeros(1, 1, 8, 8)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=workshop, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("False")
    assert "torch.Size([1, 10])" in done.stdout
    module = [sys.executable, "-m", "experiments", "fit", "mlp_digits", "debug"]
    done = subprocess.run(module, cwd=workshop, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Tip" not in done.stdout + done.stderr


def test_data_next_to_a_config_is_rejected(workshop: Path) -> None:
    with pytest.raises(MisconfigurationException, match="a config names its data"):
        fit("mlp_digits", DigitsDataModule(), max_epochs=1)


def test_a_name_equal_to_an_options_default_counts(workshop: Path) -> None:
    assert fit("linear_line", experiment="run", max_epochs=1).path.parent.name == "run"


@pytest.mark.parametrize(
    ("error", "converted"),
    [(RunLost, TrainingFailed), (FailedElsewhere, TrainingFailed), (RunBusy, MisconfigurationException)],
)
def test_python_callers_get_public_exceptions(error: type[Exception], converted: type[Exception]) -> None:
    with pytest.raises(converted, match="the reason"), as_misconfiguration():
        raise error("the reason")

"""Types of inputs and targets, and batches of one sample, through the command line and with a user's DataLoader."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from experiments import load_run
from lit_models import LitLinearRegression, LitMLP, LitTokenLSTM
from tests.experiments.conftest import Command

OWN = """
import numpy as np
import torch
from datamodules import LitDataModule

class Typed(LitDataModule):
    input_shape = (4,)

    def __init__(self, inputs="float32", targets="int64", classes: int | None = 2, samples: int = 120, **options):
        super().__init__(**options)
        self.types, self.num_classes, self.samples = (inputs, targets), classes, samples
        self.num_targets = None if classes else 1
        self.target_kind = "classes" if classes else "numbers"

    def load_part(self, split):
        rng = np.random.default_rng(len(split))
        y = rng.permutation(self.samples) % 2
        x = np.round(8 * rng.normal(size=(self.samples, 4)) + 8 * y[:, None])  # the same numbers in every type
        y = y if self.num_classes else y[:, None]
        return tuple(torch.from_numpy(values.astype(kind)) for values, kind in zip((x, y), self.types))
"""
CONFIG = """
data: {class_path: own.Typed, init_args: {batch_size: 30}}
trainer: {max_epochs: 2, enable_model_summary: false, accelerator: cpu}
"""
LABELS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool")
STILL = {"name": "sgd", "lr": 0.0}
INPUTS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64")


@pytest.fixture
def own(workshop: Path) -> Path:
    (workshop / "own.py").write_text(OWN)
    (workshop / "own.yaml").write_text(CONFIG)
    return workshop


def fit_and_test(litlab: Command, *words: str) -> dict[str, float]:
    """Return the metrics of a run and of its test."""
    fitted = litlab("fit", "own.yaml", "--trainer.max_epochs=1", *words)
    assert fitted.code == 0, fitted.err
    assert litlab("test", "own").code == 0
    assert litlab("predict", "own").code == 0
    results = [entry["metrics"] for entry in json.loads((load_run("own").path / "results.json").read_text())]
    return {name: value for metrics in results for name, value in metrics.items()}


@pytest.mark.parametrize("model", ["LitLogisticRegression", "LitLinearRegression"])
def test_all_types_give_the_results_of_float32_and_int64(litlab: Command, own: Path, model: str) -> None:
    classes = ["--data.classes=null"] if model == "LitLinearRegression" else []
    words = [f"--model={model}", *classes]
    expected = fit_and_test(litlab, *words, *(["--data.targets=float32"] if classes else []))
    tried = [("float32", kind) for kind in ("int32", "bool", "int16", *(["float64"] if classes else []))]
    for inputs, targets in [*tried, *((kind, "int64") for kind in ("float16", "float64", "int16"))]:
        found = fit_and_test(litlab, *words, f"--data.inputs={inputs}", f"--data.targets={targets}")
        assert found == expected, (inputs, targets)


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_every_integer_type_become_int64(own: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.syspath_prepend(str(own))
    module = importlib.import_module("own")
    for options in ({}, {"stratify": True}, {"target_form": "one_hot"}):
        data = module.Typed(targets=kind, batch_size=200, **options)
        ((_, y),) = data.val_dataloader()
        exact = data.load_part("train")[1].numpy().astype(np.int64)[data._split_indices[1].numpy()]
        expected = np.eye(2, dtype=np.float32)[exact] if "target_form" in options else exact
        assert y.numpy().dtype == expected.dtype
        np.testing.assert_array_equal(y.numpy(), expected)


def test_float64_data_keep_their_precision_in_float64(own: Path, litlab: Command) -> None:
    words = ["--data.inputs=float64", "--data.targets=float64", "--data.classes=null", "--trainer.precision=64-true"]
    assert litlab("fit", "own.yaml", "--model=LitLinearRegression", "--model.init=zeros", *words).code == 0
    assert litlab("test", "own").code == 0
    run = load_run("own")
    (metrics,) = [entry["metrics"] for entry in run.results if entry["verb"] == "test"]
    x, y = (values.numpy() for values in run.data.load_part("test"))
    weight, bias = (value.double().numpy() for value in run.load().state_dict().values())
    assert metrics["test/loss"] == pytest.approx(float(np.mean((x @ weight.T + bias - y) ** 2)), rel=1e-6)


def loss_of(model: pl.LightningModule, x: Tensor, y: Tensor) -> float:
    """Return the loss that the Trainer reports for a user's own DataLoader."""
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, enable_checkpointing=False, **quiet)
    trainer.fit(model, DataLoader(TensorDataset(x, y), batch_size=16))
    with torch.no_grad():
        model(x)  # the model itself takes these types too
    (metrics,) = trainer.test(model, DataLoader(TensorDataset(x, y), batch_size=16), verbose=False)
    return metrics["test/loss"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("targets", ["bool", "int32", "uint8", "float64"])
def test_a_users_own_dataloader_may_have_any_type(inputs: str, targets: str) -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy((9 * rng.normal(size=(40, 4))).astype(inputs))
    y = torch.from_numpy((np.arange(40) % 2).astype(targets))
    model: pl.LightningModule
    if targets == "float64":
        model = LitLinearRegression(input_shape=(4,), num_targets=1, optimizer=STILL)
        weight, bias = (value.double() for value in model.state_dict().values())
        expected = float(((x.double() @ weight.T + bias - y[:, None]) ** 2).mean())
        y = y[:, None]
    else:
        model = LitMLP(input_shape=(4,), num_classes=2, hidden=[], optimizer=STILL)
        weight, bias = (value.double() for value in model.state_dict().values())
        expected = float(torch.nn.functional.cross_entropy(x.double() @ weight.T + bias, y.long()))
    assert loss_of(model, x, y) == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
def test_tokens_may_be_any_integers(kind: torch.dtype) -> None:
    model = LitTokenLSTM(vocab_size=5, input_shape=(6,), embedding=4, hidden=4, layers=1, dropout=0.0)
    tokens = torch.arange(8 * 7).view(8, 7) % 5
    assert loss_of(model, tokens[:, :-1].to(kind), tokens[:, 1:].to(kind)) > 0
    with torch.no_grad():
        assert torch.equal(model(tokens.to(kind)), model(tokens))


NORMALIZED = ["--model=LitMLP", "--model.hidden=[8]", "--model.batch_norm=true"]


@pytest.mark.parametrize(
    "words",
    [["--data.batch_size=1"], ["--data.batch_size=4", "--trainer.accumulate_grad_batches=4"],
     ["--data.samples=2", "--data.val_split=1"]],
)  # fmt: skip
def test_batch_norm_and_one_sample_end_with_advice(litlab: Command, own: Path, words: list[str]) -> None:
    result = litlab("fit", "own.yaml", *NORMALIZED, *words)
    assert result.code == 2
    assert "batch_size: BatchNorm cannot train on one sample" in result.err
    assert "Set a larger --data.batch_size" in result.err
    assert "Traceback" not in result.err


@pytest.mark.filterwarnings("ignore")
def test_batch_norm_and_a_users_own_last_batch_of_one_sample() -> None:
    model = LitMLP(input_shape=(4,), num_classes=2, hidden=[3], batch_norm=True)
    with pytest.raises(MisconfigurationException, match="drop_last=True if its last batch has one sample"):
        loss_of(model, torch.randn(17, 4), torch.arange(17) % 2)


def test_batch_norm_evaluates_one_sample_as_among_others(litlab: Command, own: Path) -> None:
    assert litlab("fit", "own.yaml", *NORMALIZED).code == 0
    losses = []
    for size in (1, 120):
        tested = litlab("test", "own", f"--data.batch_size={size}")
        assert tested.code == 0, tested.err
        losses.append(load_run("own").results[-1]["metrics"]["test/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)

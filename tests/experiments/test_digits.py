"""Digits of numbers: all in files, six significant ones on the terminal."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from callbacks.trainer_state import format_number
from experiments import load_run
from tests.experiments.conftest import Command

OWN = """
import torch
from datamodules import LitDataModule

class Scaled(LitDataModule):
    input_shape, num_targets, target_kind = (3,), 1, "numbers"

    def __init__(self, offset: float = 0.0, scale: float = 1.0, double: bool = False, **options):
        super().__init__(**options)
        self.offset, self.scale, self.double = offset, scale, double

    def load_part(self, split):
        g = torch.Generator().manual_seed(len(split))
        x, noise = torch.randn(200, 3, generator=g), torch.randn(200, 1, generator=g)
        y = self.offset + self.scale * (x[:, :1] + noise)
        return (x.double(), y.double()) if self.double else (x, y)
"""
CONFIG = "data: own.Scaled\nmodel: LitLinearRegression\ntrainer: {enable_model_summary: false}\n"


@pytest.fixture
def own(workshop: Path) -> Path:
    (workshop / "own.py").write_text(OWN)
    (workshop / "scaled.yaml").write_text(CONFIG)
    return workshop


@pytest.mark.parametrize("double", [False, True])
def test_predictions_near_a_million_are_written_with_all_digits(litlab: Command, own: Path, double: bool) -> None:
    words = ["scaled.yaml", "--data.offset=1e6", "--model.optimizer=lbfgs"]
    words += ["--data.double=true", "--trainer.precision=64-true"] if double else []
    assert litlab("fit", *words, "--trainer.max_epochs=3").code == 0
    assert litlab("predict", "scaled").code == 0
    run = load_run("scaled")
    weight, bias = run.load().state_dict().values()
    run.data.setup("test")
    x, y = run.data.load_part("test")
    real = np.float64 if double else np.float32
    (path,) = Path("runs").rglob("predictions.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [real(row["target"]) for row in rows] == y[:, 0].tolist()
    expected = torch.nn.functional.linear(x, weight.to(x.dtype), bias.to(x.dtype))[:, 0].numpy()
    written = np.array([real(row["prediction"]) for row in rows])
    np.testing.assert_allclose(written, expected, rtol=4 * np.finfo(real).eps)
    assert (written % 1 != 0).mean() > 0.8  # seven digits leave no fraction


def test_a_tiny_loss_is_printed_with_its_digits(litlab: Command, own: Path) -> None:
    words = ["scaled.yaml", "--data.scale=2.65e-5", "--model.init=zeros", "--model.optimizer.lr=0"]
    fitted = litlab("fit", *words, "--trainer.max_epochs=1")
    assert fitted.code == 0, fitted.err
    tested = litlab("test", "scaled")
    data = load_run("scaled").data
    data.setup("test")
    exact = float((data.load_part("test")[1].numpy().astype(np.float64) ** 2).mean())
    assert 1e-9 < exact < 2e-9
    shown = re.search(r"^test/loss +(\S+)$", tested.out, re.M)
    assert shown
    assert float(shown[1]) == pytest.approx(exact, rel=1e-5)
    assert re.search(r"val/loss [1-9][\d.]*e-09", fitted.out)
    (results,) = Path("runs").rglob("results.json")
    (stored,) = [entry for entry in json.loads(results.read_text()) if entry["verb"] == "test"]
    assert stored["metrics"]["test/loss"] == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9, "0.9"), (2 / 3, "0.666667"), (1.4e-9, "1.4e-09"), (0.0, "0"), (1e6, "1000000"), (999999.7, "1000000"),
     (1234567.8, "1234568"), (-1e15, "-1e+15"), (float("nan"), "nan"), (float("-inf"), "-inf")],
)  # fmt: skip
def test_numbers_have_six_significant_digits(value: float, text: str) -> None:
    assert format_number(value) == text

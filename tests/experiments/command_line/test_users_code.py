"""Errors in the user's own code name the user's line, not a bug in litlab."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.conftest import Command

QUIET = ("--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")
MODULE = """
import torch
from lightning.pytorch import Callback
from torch import nn

from datamodules import DigitsDataModule, LitDataModule
from lit_models import LitClassifier


def fail(kind):
    if kind == "key":
        return {}["missing"]
    if kind == "assertion":
        assert not kind
    if kind == "lines":
        raise ValueError("first line\\nsecond line")
    if kind == "recursion":
        return fail(kind)
    if kind == "file":
        return open("no_such_file.csv")
    return torch.zeros(3) @ torch.zeros(4)


class Data(DigitsDataModule):
    def __init__(self, kind: str = "file", **options):
        super().__init__(**options)
        self.kind = kind

    def load_part(self, split):
        return fail(self.kind)


class Net(LitClassifier):
    def __init__(self, where: str = "", kind: str = "shape", **options):
        super().__init__(**options)
        self.where, self.kind = where, kind
        if where == "init":
            fail(kind)
        self.net = self.initialized(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))

    def forward(self, x):
        if self.where == "forward":
            fail(self.kind)
        return self.net(x)

    def validation_step(self, batch, batch_idx):
        if self.where == "validation_step":
            fail(self.kind)
        super().validation_step(batch, batch_idx)


class Bad(Callback):
    def on_train_batch_start(self, *arguments):
        fail("key")


class Loss(nn.Module):
    def forward(self, output, target):
        return fail("key")
"""


@pytest.mark.parametrize(
    ("options", "text", "function"),
    [
        (("--data=mine.Data",), "No such file or directory: 'no_such_file.csv'", "fail"),
        (("--model=mine.Net", "--model.where=forward"), "inconsistent tensor size", "fail"),
        (("--model=mine.Net", "--model.where=init", "--model.kind=key"), "KeyError: 'missing'", "fail"),
        (("--model=mine.Net", "--model.where=validation_step", "--model.kind=assertion"), "AssertionError", "fail"),
        (("--model=mine.Net", "--model.where=forward", "--model.kind=lines"), "first line second line", "fail"),
        (("--model=mine.Net", "--model.where=forward", "--model.kind=recursion"), "RecursionError", "fail"),
        (("--trainer.callbacks+=mine.Bad",), "KeyError: 'missing'", "fail"),
    ],
)
def test_an_error_names_the_users_line(
    litlab: Command, tmp_path: Path, options: tuple[str, ...], text: str, function: str
) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    own_model = any("mine.Net" in option for option in options)
    base = () if own_model else ("mlp_digits",)
    data = () if any(option.startswith("--data=") for option in options) else ("--data=DigitsDataModule",)
    found = litlab("fit", *base, *data, *options, *QUIET)
    assert found.code == 1, found.err
    assert text in found.sentence
    assert "mine.py, line " in found.sentence
    assert f", in {function}" in found.sentence
    assert "bug in litlab" not in found.err
    assert not Path("runs/mlp_digits/0/checkpoints").exists()


def test_debug_prints_the_whole_traceback(litlab: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    found = litlab("fit", "mlp_digits", "--trainer.callbacks+=mine.Bad", *QUIET, "--debug")
    assert found.code == 1
    assert "Traceback" in found.err


def test_an_error_in_a_worker_process_names_the_users_line(litlab: Command, tmp_path: Path) -> None:
    (tmp_path / "items.py").write_text(
        "import torch\nfrom lightning.pytorch import LightningDataModule\n"
        "from torch.utils.data import DataLoader, Dataset\n\n\n"
        "class Items(Dataset):\n    def __len__(self):\n        return 8\n\n"
        "    def __getitem__(self, index):\n        return {}['missing']\n\n\n"
        "class Data(LightningDataModule):\n    input_shape = (64,)\n    num_classes = 10\n\n"
        "    def train_dataloader(self):\n        return DataLoader(Items(), 4, num_workers=1)\n\n"
        "    val_dataloader = train_dataloader\n"
    )
    found = litlab(
        "fit", "--model=LitMLP", "--data=items.Data", "--model.input_shape=[64]", "--model.num_classes=10", *QUIET
    )
    assert found.code == 1, found.err
    assert "KeyError: 'missing' in items.py, line 11, in __getitem__" in found.sentence

"""A user's own model, data and callback, from the working folder, as the README shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments import load_run
from tests.experiments.conftest import Command

PLAIN = """
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset


class Net(LightningModule):
    def __init__(self, width: int = 8, lr: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 2))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return torch.nn.functional.cross_entropy(self.net(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", torch.nn.functional.cross_entropy(self.net(x), y))

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("test_loss", torch.nn.functional.cross_entropy(self.net(x), y))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Data(LightningDataModule):
    def __init__(self, size: int = 64):
        super().__init__()
        x = torch.randn(size, 4, generator=torch.Generator().manual_seed(0))
        self.set = TensorDataset(x, (x[:, 0] > 0).long())

    def train_dataloader(self):
        return DataLoader(self.set, batch_size=16)

    val_dataloader = test_dataloader = train_dataloader


class Counter(Callback):
    def __init__(self, limit: int):
        self.limit, self.seen = limit, 0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen += 1
        if self.seen == self.limit:
            print("counted", self.seen)
"""

SMALL = '''
from torch import nn
from lit_models import LitClassifier


class Two(LitClassifier):
    """Two layers."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, width: int = 32, **kwargs):
        super().__init__(input_shape=input_shape, num_classes=num_classes, **kwargs)
        size = input_shape[0] * input_shape[1] * input_shape[2]
        net = nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, num_classes))
        self.net = self.initialized(net)
'''

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


def test_plain_lightning_classes_run_without_knowing_litlab(litlab: Command, workshop: Path) -> None:
    (workshop / "plain_parts.py").write_text(PLAIN)
    (workshop / "mine.yaml").write_text(
        "monitor: val_loss\nmode: min\n"
        "data: {class_path: plain_parts.Data}\n"
        "model: {class_path: plain_parts.Net, init_args: {width: 4}}\n"
        "trainer:\n  max_epochs: 2\n  callbacks: [{class_path: plain_parts.Counter, init_args: {limit: 5}}]\n"
    )
    result = litlab("fit", "mine.yaml")
    assert result.code == 0, result.err
    assert "counted 5" in result.out
    tested = litlab("test", "mine")
    assert tested.code == 0, tested.err
    assert "test_loss" in tested.out
    run = load_run("mine")
    assert run.model.hparams["width"] == 4
    checkpoint = torch.load(run.folder.best, weights_only=True)
    for name, weight in run.model.state_dict().items():
        assert torch.equal(weight, checkpoint["state_dict"][name])


def test_a_wrong_monitor_of_a_plain_module_is_told_before_training(litlab: Command, workshop: Path) -> None:
    (workshop / "plain_parts.py").write_text(PLAIN)
    result = litlab("fit", "--model=plain_parts.Net", "--data=plain_parts.Data", "--monitor=val/loss", "--mode=min")
    assert result.code == 2
    assert "val_loss" in result.sentence
    assert not list(workshop.glob("runs/*/*"))


def test_a_model_in_ten_lines_gets_everything_else_from_litlab(litlab: Command, workshop: Path) -> None:
    (workshop / "two.py").write_text(SMALL)
    words = ["--model=two.Two", "--model.width=16", "--model.optimizer=sgd", "--model.optimizer.lr=0.1"]
    result = litlab("fit", *words, "--model.scheduler=cosine", "--trainer.max_epochs=3")
    assert result.code == 0, result.err
    assert litlab("test", "mlp_digits").code == 0
    assert load_run("mlp_digits").results[-1]["metrics"]["test/acc"] > 0.8
    assert litlab("predict", "mlp_digits").code == 0


def test_an_unknown_setting_of_an_own_class(litlab: Command, workshop: Path) -> None:
    (workshop / "two.py").write_text(SMALL)
    result = litlab("fit", "--model=two.Two", "--model.widht=16")
    assert result.code == 2
    assert "Two has no argument 'widht'. Did you mean width?" in result.sentence

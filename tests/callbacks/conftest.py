"""Small module, data and trainer for the tests of callbacks, independent of the other packages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

# Warnings of third-party packages about small runs.
_THIRD_PARTY = (
    r"ignore:.*does not have many workers.*",
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning",
    r"ignore:Total length of `list` across ranks is zero.*",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for line in _THIRD_PARTY:
                item.add_marker(pytest.mark.filterwarnings(line))


class Blobs(LightningDataModule):
    """Three separable clusters in two dimensions: 48 train samples, 24 for validation and test."""

    class_names = ("red", "green", "blue")

    def __init__(self, batch_size: int = 8, validation: bool = True, data_dir: str = "/somewhere") -> None:
        super().__init__()
        self.save_hyperparameters()
        generator = torch.Generator().manual_seed(0)
        centres = torch.tensor([[2.0, 0.0], [-2.0, 2.0], [0.0, -2.0]])
        y = torch.arange(72) % 3
        x = centres[y] + 0.3 * torch.randn(72, 2, generator=generator)
        self.train, self.rest = TensorDataset(x[:48], y[:48]), TensorDataset(x[48:], y[48:])
        self.batch_size, self.validation = batch_size, validation

    def train_dataloader(self) -> Any:
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.rest, batch_size=self.batch_size) if self.validation else []

    def test_dataloader(self) -> Any:
        return DataLoader(self.rest, batch_size=self.batch_size)

    predict_dataloader = test_dataloader


class Small(LightningModule):
    """Classifier with dropout; `scores` replace val/loss, one per validation; losses are NaN from step `poison` on."""

    def __init__(
        self,
        lr: float = 0.1,
        hidden: tuple[int, ...] = (8,),
        optimizer: Any = "sgd",
        scores: list[float] | None = None,
        poison: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(2, hidden[0]), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden[0], 3))
        self.criterion = nn.CrossEntropyLoss()
        self.metrics = MetricCollection({"val/acc": MulticlassAccuracy(3)})
        self.example_input_array = torch.zeros(1, 2)
        self.lr, self.poison = lr, poison
        self.scores = list(scores or [])
        self.train_losses: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.criterion(self(batch[0]), batch[1])
        if self.poison is not None and self.trainer.global_step + 1 >= self.poison:
            loss = loss * float("nan")
        self.train_losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", torch.stack(self.train_losses).mean(), sync_dist=True)
        self.train_losses.clear()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        output = self(batch[0])
        self.metrics.update(output, batch[1])
        if not self.hparams["scores"]:
            self.log("val/loss", self.criterion(output, batch[1]), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        if self.hparams["scores"]:
            self.log("val/loss", self.scores[0] if self.trainer.sanity_checking else self.scores.pop(0), sync_dist=True)
        self.log_dict(self.metrics.compute(), sync_dist=True)
        self.metrics.reset()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/loss", self.criterion(self(batch[0]), batch[1]))

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        probabilities = self(batch[0]).softmax(dim=1)
        return {"target": batch[1], "prediction": probabilities.argmax(dim=1), "probabilities": probabilities}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def blobs() -> type[Blobs]:
    return Blobs


@pytest.fixture
def small() -> Callable[..., Small]:
    """Return a function that builds a `Small` with a fixed seed."""

    def build(**arguments: Any) -> Small:
        seed_everything(0, verbose=False)
        return Small(**arguments)

    return build


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Return a function that builds a trainer with the given callbacks and the run folder `<tmp_path>/<folder>`."""

    def make(callbacks: list[Any], folder: str = "run", tensorboard: bool = False, **arguments: Any) -> Trainer:
        root = tmp_path / folder
        if tensorboard:
            arguments["logger"] = TensorBoardLogger(str(tmp_path), name="", version=folder, default_hp_metric=False)
        settings: dict[str, Any] = {
            "accelerator": "cpu",
            "max_epochs": 2,
            "logger": False,
            "log_every_n_steps": 2,
            "enable_checkpointing": any("Checkpoint" in type(callback).__name__ for callback in callbacks),
            "enable_progress_bar": any("Progress" in type(callback).__name__ for callback in callbacks),
            "enable_model_summary": False,
        }
        return Trainer(callbacks=callbacks, default_root_dir=root, **{**settings, **arguments})

    return make

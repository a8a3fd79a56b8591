"""Small data, a quiet Trainer, and filters for warnings of other libraries."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

_THIRD_PARTY = (
    # A few batches in memory need no worker processes.
    r"ignore:The '\w+' does not have many workers",
    r"ignore:The number of training batches \(\d+\) is smaller than the logging interval",
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated",
    # A test may fit the same model with and without validation data.
    r"ignore:You defined a `validation_step` but have no `val_dataloader`",
    r"ignore:GPU available but not used",
    r"ignore:LightningCLI's args parameter is intended to run from within Python",
    r"ignore:`?add_instantiator",
    r"ignore:[\s\S]*JsonargparseDeprecationWarning",
    # Lightning 2.6 passes an epoch to `scheduler.step`, which torch deprecates.
    r"ignore:The epoch parameter in `scheduler.step\(\)` was not necessary",
)

Loader = Callable[..., DataLoader[tuple[Tensor, ...]]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for text in _THIRD_PARTY:
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture(autouse=True)
def _small_and_seeded() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., pl.Trainer]:
    """Return a function that makes a Trainer without output files; keywords replace its arguments."""

    def make(**settings: Any) -> pl.Trainer:
        quiet: dict[str, Any] = {
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
            "max_epochs": 1,
        }
        return pl.Trainer(**{**quiet, **settings})

    return make


@pytest.fixture
def loader() -> Loader:
    """Return a function that makes a loader of batches in order over tensors of equal length."""

    def make(*tensors: Tensor, batch_size: int = 1000) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(*tensors), batch_size=batch_size)

    return make


@pytest.fixture
def blobs() -> tuple[Tensor, Tensor]:
    """Return 90 points of 3 classes in 4 dimensions, which an MLP separates well but not perfectly."""
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(90) % 3
    centers = 2 * torch.eye(3, 4)
    return centers[y] + torch.randn(90, 4, generator=generator), y

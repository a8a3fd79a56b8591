"""Behavior of all datamodules in Lightning's Trainer."""

from __future__ import annotations

import warnings
from itertools import chain
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules import DigitsDataModule, LineDataModule, LitDataModule, ThresholdDataModule


class Recorder(LightningModule):
    """A model that records the targets of its batches by stage."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[list[float]]] = {"train": [], "val": [], "test": [], "predict": []}

    def record(self, stage: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        self.seen[stage].append(batch[1].flatten().tolist())
        return self.weight * 0.0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.record("train", batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.record("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.record("test", batch)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.record("predict", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**options: Any) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", num_sanity_val_steps=0, **{**quiet, "max_epochs": 1, **options})


def flat(batches: list[list[float]]) -> list[float]:
    """Return the samples of all batches in order."""
    return list(chain.from_iterable(batches))


def run(data: LitDataModule, method: str = "fit", **options: Any) -> dict[str, list[list[float]]]:
    """Call one method of the Trainer; return the recorded targets."""
    model = Recorder()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        getattr(trainer(**options), method)(model, datamodule=data)
    return model.seen


def test_an_epoch_uses_every_sample_once_in_a_new_order() -> None:
    data = LineDataModule(num_samples=50, batch_size=16)
    seen = run(data, max_epochs=2)["train"]
    first, second = flat(seen[:3]), flat(seen[3:])
    assert [len(batch) for batch in seen] == [16, 16, 8] * 2
    assert sorted(first) == sorted(second)
    assert len(set(first)) == 40
    assert first != second


def test_the_order_depends_on_the_seed_of_the_run() -> None:
    orders = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        orders.append(run(LineDataModule(num_samples=50, batch_size=16))["train"])
    assert orders[0] == orders[1] != orders[2]


def test_batch_size_counts_the_samples_of_an_optimizer_step() -> None:
    seen = run(LineDataModule(num_samples=40, val_split=0, batch_size=20), accumulate_grad_batches=4)["train"]
    assert [len(batch) for batch in seen] == [5] * 8


def test_a_batch_size_that_accumulation_does_not_divide_raises_an_error() -> None:
    with pytest.raises(MisconfigurationException, match="Use a multiple of 3"):
        run(LineDataModule(batch_size=20), accumulate_grad_batches=3)


def test_without_a_validation_split_there_is_no_validation_and_no_warning() -> None:
    data = LineDataModule(num_samples=20, val_split=0)
    assert run(data)["val"] == []
    assert data.val_dataloader() == []
    assert not data.has_validation
    assert data.split_sizes() == {"train": 20, "val": 0}
    with pytest.raises(MisconfigurationException, match="val_split: 0 leaves no validation samples"):
        run(data, "validate")


def test_validation_and_test_are_in_file_order() -> None:
    data = DigitsDataModule(batch_size=100)
    val = run(data, "validate")["val"]
    assert [len(batch) for batch in val] == [100, 100, 87]
    test = flat(run(data, "test")["test"])
    assert test == data.load_part("test")[1].tolist()
    assert flat(run(data, "predict")["predict"]) == test


def test_fit_never_loads_the_test_set() -> None:
    class NoTest(LineDataModule):
        def load_part(self, part: Any) -> Any:
            assert part == "train"
            return super().load_part(part)

    data = NoTest()
    run(data)
    assert set(data.split_sizes()) == {"train", "val"}
    assert set(data.hashes()) == {"train_data", "split"}


def test_hashes_depend_on_data_and_split() -> None:
    def hashes(**options: Any) -> dict[str, str]:
        data = LineDataModule(**options)
        data.setup("fit")
        data.setup("test")
        return data.hashes()

    first = hashes()
    assert set(first) == {"train_data", "split", "test_data"}
    assert all(len(value) == 64 for value in first.values())
    assert first == hashes()
    other_split, other_data = hashes(split_seed=0), hashes(data_seed=1)
    assert other_split["train_data"] == first["train_data"]
    assert other_split["split"] != first["split"]
    assert other_data["train_data"] != first["train_data"]
    assert other_data["test_data"] != first["test_data"]
    assert other_data["split"] == first["split"]


def test_a_batch_size_above_the_number_of_samples_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    data = ThresholdDataModule(val_split=0)
    with caplog.at_level("INFO"):
        batches = list(data.train_dataloader())
    assert [len(y) for _, y in batches] == [4]
    assert [r.getMessage() for r in caplog.records] == [
        "batch_size 128 exceeds the 4 training samples: using one batch."
    ]


def test_one_hot_targets_are_float_rows() -> None:
    data = DigitsDataModule(target_form="one_hot", batch_size=8)
    index = DigitsDataModule(batch_size=8)
    (_, rows), (_, numbers) = next(iter(data.val_dataloader())), next(iter(index.val_dataloader()))
    assert rows.shape == (8, 10)
    assert rows.dtype == torch.float32
    assert torch.equal(rows.argmax(1), numbers)
    assert torch.equal(rows.sum(1), torch.ones(8))


def test_overfit_batches_uses_the_same_batch_in_every_epoch() -> None:
    seen = run(LineDataModule(batch_size=16), max_epochs=3, overfit_batches=1)["train"]
    assert seen[0] == seen[1] == seen[2]


def test_a_last_batch_of_one_sample_joins_the_previous_batch() -> None:
    """BatchNorm cannot train on one sample."""
    data = LineDataModule(num_samples=17, val_split=0, batch_size=8)
    assert [len(y) for _, y in data.train_dataloader()] == [8, 9]
    single = LineDataModule(num_samples=3, val_split=0, batch_size=1)
    assert [len(y) for _, y in single.train_dataloader()] == [1, 1, 1]


def test_hyperparameters_are_plain_data() -> None:
    data = LineDataModule(slope=2.0, val_split=5)
    assert data.hparams["slope"] == 2.0
    assert data.hparams["val_split"] == 5
    assert {type(value) for value in data.hparams.values()} <= {int, float, str, bool, type(None)}


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (torch.zeros(5, 1), torch.zeros(4).long(), r"Own's train tensors contain 5 samples but 4 labels\."),
        (torch.zeros(3, 1), torch.tensor([0, 1, 2]), r"contain the label 2, expected 0 to 1\."),
        (torch.zeros(3, 1), torch.tensor([0, -1, 1]), r"contain the label -1, expected 0 to 1\."),
        (torch.zeros(0, 1), torch.zeros(0).long(), r"contain no samples\."),
    ],
)
def test_inconsistent_data_raises_an_error(x: Tensor, y: Tensor, words: str) -> None:
    class Own(LitDataModule):
        input_shape = (1,)
        num_classes = 2

        def load_part(self, part: Any) -> Any:
            return x, y

    with pytest.raises(MisconfigurationException, match=words):
        Own().setup("fit")
    with pytest.raises(MisconfigurationException, match=words.replace("train", "test")):
        Own().setup("test")


@pytest.mark.parametrize("steps", [0, -2])
def test_accumulation_over_no_batches_raises_an_error(steps: int) -> None:
    with pytest.raises(
        MisconfigurationException, match=rf"accumulate_grad_batches must be a positive integer, got {steps}"
    ):
        run(LineDataModule(), accumulate_grad_batches=steps)

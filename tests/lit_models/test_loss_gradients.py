"""Gradients of an optimizer step against float64 on the whole batch, for every way to divide the step."""

import copy
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn import functional

from datamodules import LitDataModule
from lit_models import LitClassifier, LitMLP

WEIGHT = [1.0, 49.0, 3.0]
W64 = torch.tensor(WEIGHT, dtype=torch.float64)
Reference = Callable[[Tensor, Tensor], Tensor]


class Rare(LitDataModule):
    """Three classes, of which class 1 is rare."""

    input_shape, num_classes = (4,), 3

    def __init__(self, samples: int, **kwargs: Any) -> None:
        self.samples = samples
        super().__init__(val_split=0, **kwargs)

    def load_part(self, split: str) -> tuple[Tensor, Tensor]:
        g = torch.Generator().manual_seed(1 if split == "train" else 2)
        rare = torch.rand(self.samples, generator=g) < 0.03
        y = (2 * torch.randint(2, (self.samples,), generator=g)).masked_fill(rare, 1)
        y[:2] = torch.tensor([0, 1])
        return torch.randn(self.samples, 4, generator=g) + y[:, None], y


class LogSoftmaxNet(LitClassifier):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__((4,), 3, **kwargs)
        self.net = self.initialized(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), nn.LogSoftmax(1)))


class FocalMean(nn.Module):
    """A user's loss that divides by its own weights."""

    def _weights(self, target: Tensor) -> Tensor:
        return 1.0 + 9.0 * (target == 1)

    def batch_weight(self, output: Tensor, target: Tensor) -> Tensor:
        return self._weights(target).sum()

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        log_p = output.log_softmax(1).gather(1, target[:, None])[:, 0]
        weights = self._weights(target)
        return (-weights * (1 - log_p.exp()) ** 2 * log_p).sum() / weights.sum()


class BalancedMean(nn.Module):
    """A weighted mean that does not say so."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output, target, torch.tensor(WEIGHT))


TORCH = "torch.nn."
#: name -> loss, other arguments of the model, and the loss of the whole batch in float64
LOSSES: dict[str, tuple[Any, dict[str, Any], Reference]] = {
    "plain": ("cross_entropy", {}, functional.cross_entropy),
    "weight": ({"name": "cross_entropy", "weight": WEIGHT}, {}, lambda z, y: functional.cross_entropy(z, y, W64)),
    "penalties": (
        {"name": "cross_entropy", "weight": WEIGHT}, {"l1": 0.01, "l2": 0.1},
        lambda z, y: functional.cross_entropy(z, y, W64),
    ),
    "smoothing": (
        {"name": "cross_entropy", "weight": WEIGHT, "label_smoothing": 0.1}, {},
        lambda z, y: functional.cross_entropy(z, y, W64, label_smoothing=0.1),
    ),
    "nll": ({"name": "nll", "weight": WEIGHT}, {}, lambda z, y: functional.nll_loss(z.log_softmax(1), y, W64)),
    "ignore": (
        {"name": "cross_entropy", "ignore_index": 2, "weight": WEIGHT}, {},
        lambda z, y: functional.cross_entropy(z, y, W64, ignore_index=2),
    ),
    "ignore, smoothing": (
        {"name": "cross_entropy", "ignore_index": 0, "label_smoothing": 0.2}, {},
        lambda z, y: functional.cross_entropy(z, y, ignore_index=0, label_smoothing=0.2),
    ),
    "torch": (
        {"class_path": TORCH + "CrossEntropyLoss", "weight": WEIGHT, "ignore_index": 0}, {},
        lambda z, y: functional.cross_entropy(z, y, W64, ignore_index=0),
    ),
    "torch nll": (
        {"class_path": TORCH + "NLLLoss", "weight": WEIGHT, "ignore_index": 2}, {},
        lambda z, y: functional.nll_loss(z, y, W64, ignore_index=2),
    ),
    "class path": (f"{__name__}.FocalMean", {}, FocalMean()),
}  # fmt: skip


class Compare(pl.Callback):
    """Compares the gradients of each step with float64 autograd on the samples of all ranks."""

    def __init__(self, reference: Reference) -> None:
        self.reference, self.batches, self.errors = reference, [], []

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        every: list[Any] = [self.batches]
        if trainer.world_size > 1:
            every = [None] * trainer.world_size
            torch.distributed.all_gather_object(every, self.batches)
        x, y = (torch.cat(part) for part in zip(*(batch for rank in every for batch in rank), strict=True))
        self.batches = []
        net = copy.deepcopy(module.net).double()
        net.zero_grad()
        matrices = [p for p in net.parameters() if p.dim() == 2]
        objective = self.reference(net(x.double()), y)
        objective = objective + module.l1 * sum(p.abs().sum() for p in matrices)
        (objective + module.l2 / 2 * sum(p.square().sum() for p in matrices)).backward()
        expected = torch.cat([p.grad.flatten() for p in net.parameters()])
        found = torch.cat([p.grad.flatten().double() for p in module.net.parameters()])
        self.errors.append((float((found - expected).norm() / expected.norm()), len(x)))


def _errors(name: str, batch_size: int, accumulate: int, folder: Any, **trainer: Any) -> list[tuple[float, int]]:
    spec, arguments, reference = LOSSES[name]
    torch.manual_seed(0)
    model = LogSoftmaxNet(loss=spec) if name == "torch nll" else LitMLP((4,), 3, hidden=[5], loss=spec, **arguments)
    compare = Compare(reference)
    _fit(model, batch_size, accumulate, folder, callbacks=[compare], **trainer)
    return compare.errors


def _fit(model: pl.LightningModule, batch_size: int, accumulate: int, folder: Any, **trainer: Any) -> pl.Trainer:
    run = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, default_root_dir=folder,
        enable_model_summary=False, max_epochs=1, accumulate_grad_batches=accumulate, **trainer,
    )  # fmt: skip
    run.fit(model, datamodule=Rare(batch_size + batch_size // 3, batch_size=batch_size))
    return run


def _check(name: str, batch_size: int, accumulate: int, folder: Any, **trainer: Any) -> None:
    errors = _errors(name, batch_size, accumulate, folder, **trainer)
    assert [samples for _, samples in errors] == [batch_size, batch_size // 3], (name, batch_size, accumulate)
    for error, _ in errors:
        assert error < 3e-6, (name, batch_size, accumulate, error)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("batch_size", "accumulate"), [(16, 1), (16, 4), (16, 16), (64, 8), (256, 64), (1280, 1), (1280, 8), (1280, 64)]
)
def test_gradients_of_accumulated_batches(name: str, batch_size: int, accumulate: int, tmp_path: Path) -> None:
    _check(name, batch_size, accumulate, tmp_path)


def _on_rank(rank: int, world_size: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size), LOCAL_WORLD_SIZE=str(world_size), GROUP_RANK="0", TORCHELASTIC_RUN_ID="test",
    )  # fmt: skip
    cases = [(name, 24, accumulate) for name in LOSSES for accumulate in (1, 4)]
    for name, batch_size, accumulate in [*cases, ("weight", 1152, 1), ("weight", 1152, 64), ("torch", 192, 32)]:
        _check(name, batch_size, accumulate, folder, strategy="ddp", devices=world_size)
    for accumulate in (1, 4):  # the logged loss, of weights that do not change
        model = LitMLP((4,), 3, hidden=[5], loss=LOSSES["weight"][0], optimizer={"name": "sgd", "lr": 0.0})
        run = _fit(model, 24, accumulate, folder, strategy="ddp", devices=world_size)
        x, y = run.datamodule.load_part("train")  # type: ignore[attr-defined]
        expected = functional.cross_entropy(model.net.double()(x.double()), y, W64).item()
        assert float(run.callback_metrics["train/loss"]) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(MisconfigurationException, match="loss: BalancedMean is not a mean over samples"):
        _fit(LitMLP((4,), 3, loss=f"{__name__}.BalancedMean"), 24, 1, folder, strategy="ddp", devices=world_size)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, 3])
def test_gradients_of_several_processes(world_size: int, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_processes(_on_rank, (world_size, port, str(tmp_path)), nprocs=world_size, start_method="fork")


def test_weights_in_bfloat16_keep_their_digits(tmp_path: Path) -> None:
    weight = [0.1, 49.3, 3.0]
    model = LitMLP((4,), 3, loss={"name": "cross_entropy", "weight": weight}).to(torch.bfloat16)
    z, y = torch.randn(50, 3), torch.arange(50) % 3
    expected = functional.cross_entropy(z.double(), y, torch.tensor(weight, dtype=torch.float64))
    torch.testing.assert_close(model.loss_fn(z, y).double(), expected, rtol=1e-6, atol=0)

"""Preparations whose output shows their input, and a model that accepts any batch."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from datamodules.serving.batches import Batch, Batches, Preparation, Selection
from datamodules.synthetic import LineDataModule


class Jitter(Preparation):
    """A preparation that adds each sample's random numbers and the epoch."""

    num_uniforms = 2

    def __call__(self, inputs: Tensor, targets: Tensor, selection: Selection) -> Batch:
        x, y = super().__call__(inputs, targets, selection)
        assert selection.uniforms is not None
        assert selection.uniforms.shape == (len(x), self.num_uniforms)
        return x + selection.uniforms.sum(1, keepdim=True) + selection.epoch, y


class Mixed(Jitter):
    """A preparation that mixes neighboring samples and adds noise from the batch's seed."""

    full_batch = True

    def __call__(self, inputs: Tensor, targets: Tensor, selection: Selection) -> Batch:
        x, y = super().__call__(inputs, targets, selection)
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(selection.seed))
        return x + x.roll(1, 0) + noise, y


class JitteredLine(LineDataModule):
    """A line with jittered training inputs."""

    def preparation(self, train: bool) -> Preparation:
        return Jitter() if train else super().preparation(train)


class Follower(LightningModule):
    """A model that learns a line, records its training inputs and may save within an epoch."""

    def __init__(self, save_at: int | None = None, path: str = "", asks_length: bool = False) -> None:
        super().__init__()
        self.asks_length = asks_length
        self.net = torch.nn.Linear(1, 1)
        self.save_at = save_at
        self.path = path
        self.seen: list[list[float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.seen.append(x.flatten().tolist())
        return torch.nn.functional.mse_loss(self.net(x), y)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if len(self.seen) == self.save_at:
            self.trainer.save_checkpoint(self.path)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.asks_length:  # like schedules; Lightning then creates the loaders before it restores the loops
            assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=1e-3, momentum=0.9)


def train(model: LightningModule, data: LineDataModule, ckpt_path: str | None = None, **options: Any) -> None:
    """Train without output, for two epochs by default."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", **{**quiet, "max_epochs": 2, "num_sanity_val_steps": 0, **options})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)


def line_batches(n: int, batch_size: int, **options: Any) -> Batches:
    """Return batches of samples whose input and target are their number."""
    return Batches(torch.arange(n, dtype=torch.float32).unsqueeze(1), torch.arange(n), batch_size, **options)

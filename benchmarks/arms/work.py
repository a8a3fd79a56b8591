"""The tasks of the benchmark: each pairs a shipped config with the same training in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from benchmarks.arms import nets

_ADAM = partial(torch.optim.Adam, lr=0.001)


@dataclass(frozen=True)
class Work:
    """A training task for every arm; `fraction` shortens the epochs, `count` is the number of synthetic images."""

    config: str
    dataset: str
    net: Callable[[], nn.Module]
    batch_size: int = 128
    optimizer: Callable[..., Optimizer] = _ADAM
    max_lr: float | None = 0.003  # of OneCycleLR; None selects CosineAnnealingLR
    clip: float | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    fraction: float = 1.0
    held_out: int = 5000
    count: int = 50_000
    seed: int = 42

    def schedule(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """Return the learning rate schedule, which steps once per optimizer step."""
        if self.max_lr is None:
            return CosineAnnealingLR(optimizer, steps)
        return OneCycleLR(optimizer, self.max_lr, total_steps=steps)

    def quick(self) -> Work:
        """Return a tiny version for a functional test."""
        return replace(self, held_out=20, count=100, fraction=1.0, batch_size=min(self.batch_size, 32))

    def as_overrides(self) -> dict[str, Any]:
        """Return the overrides for litlab, by dotted name."""
        data = {"batch_size": self.batch_size, "val_split": self.held_out}
        if self.fraction != 1:
            data["train_fraction"] = self.fraction  # type: ignore[assignment]
        own: dict[str, Any] = {}
        if self.dataset == "MadeUp32":
            own["data"] = "benchmarks.arms.made_up.MadeUp32DataModule"
            data["count"] = self.count
        return {**own, **{f"data.{name}": value for name, value in data.items()}, **self.overrides}


CNN = Work("cnn_fashion_mnist", "FashionMNIST", nets.cnn)
SOFTMAX = Work(
    "logistic_mnist", "MNIST", nets.softmax_regression, 256, partial(torch.optim.Adam, lr=0.002), max_lr=None
)
MLP = Work("mlp_mnist", "MNIST", nets.mlp, 256, partial(torch.optim.Adam, lr=0.01), max_lr=0.01)
LSTM = Work("lstm_mnist", "MNIST", nets.RowLSTM, optimizer=partial(torch.optim.Adam, lr=0.002), max_lr=0.004, clip=1.0)
RESNET = Work(
    "resnet_fashion_mnist",
    "FashionMNIST",
    nets.small_resnet,
    optimizer=partial(torch.optim.AdamW, lr=0.001, weight_decay=0.01),
    max_lr=0.01,
)
MLP_512 = replace(
    MLP,
    net=nets.mlp_512,
    optimizer=_ADAM,
    max_lr=0.001,
    overrides={
        "model.hidden": [512, 512],
        "model.batch_norm": False,
        "model.dropout": 0.0,
        "model.optimizer.lr": 0.001,
    },
)
CNN_MNIST = replace(CNN, config="cnn_mnist", dataset="MNIST")
CNN_32 = Work("cnn_cifar10", "MadeUp32", nets.cnn_batchnorm)
RESNET_18 = Work(
    "resnet_cifar10",
    "MadeUp32",
    nets.resnet18,
    512,
    partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0005),
    max_lr=None,
    overrides={"model.scheduler": "cosine"},
)

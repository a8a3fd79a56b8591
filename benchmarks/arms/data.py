"""The training data of all arms, read without litlab."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor

IDX = ("MNIST", "FashionMNIST")
STATISTICS = {  # mean, standard deviation
    "MNIST": ((0.1307,), (0.3081,)),
    "FashionMNIST": ((0.2860,), (0.3530,)),
    "MadeUp32": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


@dataclass(frozen=True)
class Pixels:
    """Training images uint8 `(N, C, H, W)`, labels int64 `(N,)`, and the mean and standard deviation per channel."""

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return the factor and the offset `(C, 1, 1)` that turn a pixel x into (x / 255 - mean) / std."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return 1 / (std * 255), -mean / std


def folder() -> Path:
    """Return the folder of the idx files."""
    return Path(os.environ.get("LITLAB_DATA_DIR", "data"))


def read(dataset: str, count: int) -> Pixels:
    """Return the training split; `count` is the number of synthetic 32x32 images."""
    mean, std = STATISTICS[dataset]
    if dataset == "MadeUp32":
        images, labels = synthetic(count, (3, 32, 32))
        return Pixels(images, labels, mean, std)
    found = getattr(torchvision.datasets, dataset)(folder(), train=True)
    return Pixels(found.data.unsqueeze(1), found.targets, mean, std)


def synthetic(count: int, shape: tuple[int, int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return noise images with one bright cell of a 2 x 5 grid per class: easy to learn, same size as real images."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (count,), generator=generator)
    images = torch.randint(0, 60, (count, *shape), dtype=torch.uint8, generator=generator)
    height, width = shape[1] // 2, shape[2] // 5
    for label in range(10):
        row, column = divmod(label, 5)
        cell = (slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width))
        images[(labels == label).nonzero()[:, 0], :, *cell] += 180
    return images, labels


def write_idx(root: Path, train: int, test: int) -> None:
    """Write synthetic MNIST and FashionMNIST files in the original format, for a machine without the real ones."""
    for dataset in IDX:
        place = root / dataset / "raw"
        place.mkdir(parents=True, exist_ok=True)
        for prefix, count, seed in (("train", train, 0), ("t10k", test, 1)):
            images, labels = synthetic(count, (1, 28, 28), seed)
            for name, values in (("images-idx3", images[:, 0]), ("labels-idx1", labels.to(torch.uint8))):
                header = struct.pack(f">{values.ndim + 1}I", 0x0800 + values.ndim, *values.shape)
                (place / f"{prefix}-{name}-ubyte").write_bytes(header + np.ascontiguousarray(values).tobytes())

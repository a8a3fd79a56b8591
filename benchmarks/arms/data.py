"""The tensors that all arms train on, read without litlab."""

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
FACTS = {  # mean, standard deviation
    "MNIST": ((0.1307,), (0.3081,)),
    "FashionMNIST": ((0.2860,), (0.3530,)),
    "MadeUp32": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


@dataclass(frozen=True)
class Pixels:
    """All training images uint8 (N, C, H, W), their labels int64 (N,), and what normalises them."""

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Factor and summand (C, 1, 1) that make (x / 255 - mean) / std of a pixel."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return 1 / (std * 255), -mean / std


def folder() -> Path:
    """Where the idx files lie."""
    return Path(os.environ.get("LITLAB_DATA_DIR", "data"))


def read(dataset: str, count: int) -> Pixels:
    """The training part; `count` says how many images of 32x32 to make up."""
    mean, std = FACTS[dataset]
    if dataset == "MadeUp32":
        images, labels = made_up(count, (3, 32, 32))
        return Pixels(images, labels, mean, std)
    found = getattr(torchvision.datasets, dataset)(folder(), train=True)
    return Pixels(found.data.unsqueeze(1), found.targets, mean, std)


def made_up(count: int, shape: tuple[int, int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise with a bright cell of a 2 x 5 grid where the class says: easy to learn, as many bytes as real images."""
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
    """Made-up MNIST and FashionMNIST in their own file format, for a machine that has neither."""
    for dataset in IDX:
        place = root / dataset / "raw"
        place.mkdir(parents=True, exist_ok=True)
        for prefix, count, seed in (("train", train, 0), ("t10k", test, 1)):
            images, labels = made_up(count, (1, 28, 28), seed)
            for name, values in (("images-idx3", images[:, 0]), ("labels-idx1", labels.to(torch.uint8))):
                header = struct.pack(f">{values.ndim + 1}I", 0x0800 + values.ndim, *values.shape)
                (place / f"{prefix}-{name}-ubyte").write_bytes(header + np.ascontiguousarray(values).tobytes())

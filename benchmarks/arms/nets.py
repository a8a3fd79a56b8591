"""The networks of litlab's configs, written out by hand in plain torch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def softmax_regression() -> nn.Module:
    """28x28 -> 10, one linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def mlp() -> nn.Module:
    """784-256-128-10 with BatchNorm and Dropout 0.2."""
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(784, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Linear(256, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.2)),
        nn.Linear(128, 10),
    )


def mlp_512() -> nn.Module:
    """784-512-512-10, nothing else."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )


def cnn() -> nn.Module:
    """Three 3x3 convolutions of 32-64-128 filters, each pooled, then 256 units; for 1x28x28."""
    layers: list[nn.Module] = []
    for channels, width in ((1, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(128 * 3 * 3, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10)
    )


def cnn_batchnorm() -> nn.Module:
    """The same with BatchNorm and without padding; for 3x32x32."""
    layers: list[nn.Module] = []
    for channels, width in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(channels, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(128 * 2 * 2, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10)
    )


class RowLSTM(nn.Module):
    """Reads (B, 1, 28, 28) row by row; the last output is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(28, 128, batch_first=True)
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.lstm(x.squeeze(1))[0][:, -1])
        return logits


class Block(nn.Module):
    """Two 3x3 convolutions with BatchNorm, and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem and stages of blocks, each after the first halving the image."""

    def __init__(self, channels: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        before = widths[0]
        for stage, width in enumerate(widths):
            for number in range(blocks):
                layers.append(Block(before, width, 2 if stage and not number else 1))
                before = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(before, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x).mean(dim=(2, 3)))
        return logits


def small_resnet() -> nn.Module:
    """32-64-128, one block each, for 1x28x28."""
    return ResNet(1, (32, 64, 128), 1)


def resnet18() -> nn.Module:
    """64-128-256-512, two blocks each, for 3x32x32."""
    return ResNet(3, (64, 128, 256, 512), 2)

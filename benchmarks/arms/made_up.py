"""Synthetic 32x32 images as a litlab datamodule."""

from typing import Any

from benchmarks.arms.data import STATISTICS, synthetic
from datamodules import PixelDataModule


class MadeUp32DataModule(PixelDataModule):
    """Color images of 32x32 with easy classes, to measure time without the real files."""

    input_shape = (3, 32, 32)
    num_classes = 10
    mean, std = STATISTICS["MadeUp32"]

    def __init__(self, count: int = 50_000, **options: Any) -> None:
        super().__init__(**options)
        self.count = count

    def load_part(self, part: str) -> Any:
        """Return training images from seed 0 or test images from seed 1."""
        train = part == "train"
        return synthetic(self.count if train else max(50, self.count // 5), self.input_shape, 0 if train else 1)

"""Made-up 32x32 images as a litlab datamodule."""

from typing import Any

from benchmarks.arms.data import FACTS, made_up
from datamodules import PixelDataModule


class MadeUp32DataModule(PixelDataModule):
    """Colour images of 32x32 with easy classes, to measure time where the true files are not at hand."""

    input_shape = (3, 32, 32)
    num_classes = 10
    mean, std = FACTS["MadeUp32"]

    def __init__(self, count: int = 50_000, **options: Any) -> None:
        super().__init__(**options)
        self.count = count

    def load_part(self, part: str) -> Any:
        """Training images by one seed, test images by another."""
        train = part == "train"
        return made_up(self.count if train else max(50, self.count // 5), self.input_shape, 0 if train else 1)

"""Images held as whole numbers and normalised batch by batch."""

from typing import Any

import torch
from torch import Tensor

from datamodules.base import LitDataModule
from datamodules.loader import Batch


class PixelDataModule(LitDataModule):
    """Images (N, C, H, W) kept as uint8; a batch is float32, scaled to 0..1, then (x - mean) / std per channel."""

    mean: tuple[float, ...]  # per channel, of the training images scaled to 0..1
    std: tuple[float, ...]
    max_value: int = 255  # the pixel value that becomes 1.0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._affine: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def prepare_batch(self, inputs: Tensor, targets: Tensor) -> Batch:
        """Normalise the picked images."""
        scale, shift = self._scale_and_shift(inputs.device)
        return inputs.to(torch.float32).mul_(scale).add_(shift), self.prepare_targets(targets)

    def _scale_and_shift(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The factor and summand that make (x / max_value - mean) / std of x; kept per device."""
        if device not in self._affine:
            mean, std = (torch.tensor(value, device=device).view(-1, 1, 1) for value in (self.mean, self.std))
            self._affine[device] = 1 / (std * self.max_value), -mean / std
        return self._affine[device]

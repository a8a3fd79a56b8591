"""Images held as whole numbers, augmented and normalised batch by batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.augmentation.chain import AugmentedRows, PixelRows
from datamodules.augmentation.check import check_chain, check_network
from datamodules.augmentation.specs import build, plain_specs
from datamodules.base import LitDataModule
from datamodules.serving.batches import Batch, Preparation


class PixelDataModule(LitDataModule):
    """Images (N, C, H, W) kept as uint8; a batch is float32, scaled to 0..1, then (x - mean) / std per channel."""

    mean: tuple[float, ...]  # per channel, of the training images scaled to 0..1
    std: tuple[float, ...]
    max_value: int = 255  # the pixel value that becomes 1.0

    def __init__(self, augment: Sequence[str | dict[str, Any]] = (), **options: Any) -> None:
        """Keep the settings.

        Args:
            augment: what is done to training images, in this order, each sample by its own draw: names or
                {name: crop, padding: 4}. Any of crop, flip, cutout, erasing, shift, rotation, color_jitter,
                perspective, resize, greyscale, blur, noise, mixup, cutmix; or {class_path: torchvision.transforms.v2.X,
                init_args: {...}}, which is slower.
            **options: arguments of every datamodule, see `LitDataModule`.
        """
        augment = plain_specs(augment)
        super().__init__(**options)
        self.augment = augment
        self._affine: dict[tuple[torch.device, int], tuple[Tensor, Tensor]] = {}
        self._transforms, self._mixes = build(augment)

    def prepare_batch(self, inputs: Tensor, targets: Tensor) -> Batch:
        """Normalise the picked images, whole numbers or floats in 0..max_value; the memory layout stays."""
        images = inputs.to(torch.float32, copy=True)
        count, channels, height, width = images.shape
        last = channels > 1 and images.is_contiguous(memory_format=torch.channels_last)
        scale, shift = self._scale_and_shift(inputs.device, width if last else 0)
        # One row of pixels with its channels side by side is a long enough run for the processor's vectors.
        flat = images.permute(0, 2, 3, 1).view(count, height, width * channels) if last else images
        flat.mul_(scale).add_(shift)
        return images, self.prepare_targets(targets)

    def preparation(self, train: bool) -> Preparation:
        """Picks and normalises; for training it augments too, in the layout that the model asks for."""
        module = getattr(self.trainer, "lightning_module", None)
        channels_last = bool(getattr(module, "channels_last", False))
        if not train or not self.augment:
            return PixelRows(self.prepare_batch, channels_last)
        channels, height, width = self.input_shape
        shape = channels, height, width
        small = check_chain(self._transforms, shape, self.max_value == 255)
        if module is not None:
            check_network(module, shape, small)
        return AugmentedRows(
            self._transforms,
            self._mixes,
            self.prepare_batch,
            max_value=self.max_value,
            num_classes=self.num_classes,
            run_seed=torch.initial_seed(),
            channels_last=channels_last,
        )

    def _scale_and_shift(self, device: torch.device, repeats: int) -> tuple[Tensor, Tensor]:
        """The factor and summand that make (x / max_value - mean) / std of x: (C, 1, 1), or (repeats * C,)."""
        if (device, repeats) not in self._affine:
            mean, std = (torch.tensor(value, device=device).view(-1, 1, 1) for value in (self.mean, self.std))
            pair = 1 / (std * self.max_value), -mean / std
            self._affine[device, repeats] = (
                (pair[0].view(-1).repeat(repeats), pair[1].view(-1).repeat(repeats)) if repeats else pair
            )
        return self._affine[device, repeats]

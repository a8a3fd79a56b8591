"""Base of the image datamodules: uint8 images, augmented and normalized per batch."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.augmentation.image_preparation import AugmentedPreparation, ImagePreparation
from datamodules.augmentation.shape_checks import check_network, check_transforms
from datamodules.augmentation.specs import build_transforms, normalize_specs
from datamodules.base import LitDataModule
from datamodules.serving.batches import Batch, Preparation

_LARGEST_STATISTIC = 1e30  # of a mean or standard deviation; float32 represents it


class PixelDataModule(LitDataModule):
    """Base of the image datamodules: images stored as uint8 `(N, C, H, W)`, and normalized float32 batches.

    Pixels are scaled to 0..1, then normalized to (x - mean) / std per channel.
    """

    fitted_properties: ClassVar[tuple[str, ...]] = ("mean", "std")
    mean: tuple[float, ...]  # of each channel of the training images, scaled to 0..1
    std: tuple[float, ...]  # of each channel
    max_value: int = 255  # the pixel value that becomes 1.0

    def __init__(self, augment: Sequence[str | dict[str, Any]] = (), **options: Any) -> None:
        """Build the transforms.

        Args:
            augment: transforms of training images, in this order, with random parameters per sample. An entry is a name
                or a mapping such as {name: crop, padding: 4}. Names are crop, flip, cutout, erasing, shift, rotation,
                color_jitter, perspective, resize, grayscale, blur, noise, mixup and cutmix. The slower {class_path:
                torchvision.transforms.v2.X, init_args: {...}} adds any other transform.
            **options: arguments of every datamodule, see `LitDataModule`.
        """
        augment = normalize_specs(augment)  # before super(), where `save_hyperparameters` reads the argument
        super().__init__(**options)
        self.augment = augment
        self._affine: dict[tuple[torch.device, int], tuple[Tensor, Tensor]] = {}
        self._transforms, self._mixes = build_transforms(augment)

    def use_model_properties(self, saved: Mapping[str, Any]) -> None:
        """Normalize with the mean and standard deviation of the run."""
        super().use_model_properties(saved)
        for name in saved.keys() & {"mean", "std"}:
            values: Any = saved[name]
            numbers = isinstance(values, list) and all(
                isinstance(value, (int, float)) and abs(value) < _LARGEST_STATISTIC for value in values
            )
            if not numbers or len(values) not in (1, self.input_shape[0]):
                raise MisconfigurationException(
                    f"data: the {name} stored with the run is corrupted: {str(values)[:80]}. Restore the run folder."
                )

    def prepare_batch(self, inputs: Tensor, targets: Tensor) -> Batch:
        """Return normalized images in the same memory layout, from integers or floats in 0..max_value."""
        images = inputs.to(torch.float32, copy=True)
        count, channels, height, width = images.shape
        last = channels > 1 and images.is_contiguous(memory_format=torch.channels_last)
        scale, shift = self._scale_and_shift(inputs.device, width if last else 0)
        # In the channels-last layout, rows of pixels with all channels are long enough for vector instructions.
        flat = images.permute(0, 2, 3, 1).view(count, height, width * channels) if last else images
        flat.mul_(scale).add_(shift)
        return images, self.prepare_targets(targets)

    def preparation(self, train: bool) -> Preparation:
        """Return the callable that selects, augments (if `train`) and normalizes images, in the model's layout."""
        module = getattr(self.trainer, "lightning_module", None)
        channels_last = bool(getattr(module, "channels_last", False))
        if not train or not self.augment:
            return ImagePreparation(self.prepare_batch, channels_last)
        channels, height, width = self.input_shape
        shape = channels, height, width
        small = check_transforms(self._transforms, shape, self.max_value == 255)
        if module is not None:
            check_network(module, shape, small)
        return AugmentedPreparation(
            self._transforms,
            self._mixes,
            self.prepare_batch,
            max_value=self.max_value,
            num_classes=self.num_classes,
            run_seed=torch.initial_seed(),
            channels_last=channels_last,
        )

    def _scale_and_shift(self, device: torch.device, repeats: int) -> tuple[Tensor, Tensor]:
        """Return a and b with a * x + b = (x / max_value - mean) / std: `(C, 1, 1)`, or flat with repeats."""
        if (device, repeats) not in self._affine:
            mean, std = (torch.tensor(value, device=device).view(-1, 1, 1) for value in (self.mean, self.std))
            pair = 1 / (std * self.max_value), -mean / std
            scale, shift = (value.view(-1).repeat(repeats) if repeats else value for value in pair)
            self._affine[device, repeats] = scale, shift
        return self._affine[device, repeats]

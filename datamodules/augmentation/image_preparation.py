"""Preparation of image batches: selection, augmentation, normalization and mixing."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.augmentation.fused_crop_flip import FusedCropFlip
from datamodules.augmentation.mix import Mix
from datamodules.augmentation.transform import Transform, TransformContext
from datamodules.serving.batches import Batch, Preparation, Selection


class ImagePreparation(Preparation):
    """A preparation that selects images `(C, H, W)`, converts them to the model's memory layout and normalizes them."""

    def __init__(self, normalize: Callable[[Tensor, Tensor], Batch], channels_last: bool = False) -> None:
        super().__init__(normalize)
        self.normalize = normalize
        self.channels_last = channels_last

    def __call__(self, inputs: Tensor, targets: Tensor, selection: Selection) -> Batch:
        """Return the batch without augmentation."""
        images = self.to_memory_layout(select_rows(inputs, selection.rows))
        return self.normalize(images, targets.index_select(0, selection.rows))

    def to_memory_layout(self, images: Tensor) -> Tensor:
        """Return the images in the model's memory layout; uint8 images are the fastest to convert."""
        if not self.channels_last:
            return images.contiguous()
        count, channels, height, width = images.shape
        if channels == 1:  # the same bytes with other strides
            return images.contiguous().view(count, height, width, 1).permute(0, 3, 1, 2)
        return images.contiguous(memory_format=torch.channels_last)


class AugmentedPreparation(ImagePreparation):
    """A preparation that selects, transforms, normalizes and mixes images.

    If the transforms begin with crop and flip, in any order, and copies are allowed, one gather from a padded copy
    selects, crops and flips the images.
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        mixes: Sequence[Mix],
        normalize: Callable[[Tensor, Tensor], Batch],
        *,
        max_value: int = 255,
        num_classes: int | None = None,
        run_seed: int = 0,
        channels_last: bool = False,
    ) -> None:
        """Store the arguments.

        `normalize` gets images in 0..max_value, uint8 unless a transform needs floats. `mixes` get normalized batches.
        """
        super().__init__(normalize, channels_last)
        if mixes and num_classes is None:
            raise MisconfigurationException(
                f"augment: {mixes[0].name} needs data with classes. Remove it from data.augment."
            )
        self.transforms = list(transforms)
        self.mixes = list(mixes)
        self.max_value = max_value
        self.num_classes = num_classes
        self.run_seed = run_seed
        steps: list[Transform | Mix] = [*self.transforms, *self.mixes]
        self.num_uniforms = sum(step.num_uniforms for step in steps)
        self.full_batch = any(step.full_batch for step in steps)
        self._widths = [step.num_uniforms for step in steps]
        self._fused = FusedCropFlip.of(self.transforms)

    def copy_bytes(self, inputs: Tensor) -> int:
        """Return the size of the padded copy in bytes; 0 if it is not useful or too large compared with the data."""
        return self._fused.size(inputs) if self._fused else 0

    def __call__(self, inputs: Tensor, targets: Tensor, selection: Selection) -> Batch:
        """Return the augmented batch."""
        rows, uniforms, seed, epoch, samples = selection
        if uniforms is None:
            uniforms = torch.empty(len(rows), 0, device=rows.device)
        height, width = inputs.shape[2:]
        contexts = [
            TransformContext(own, rows if samples is None else samples, height, width, epoch, seed, self.run_seed)
            for own in torch.split(uniforms, self._widths, 1)
        ]
        images = self._transform(inputs, rows, contexts)
        batch = self.normalize(self.to_memory_layout(images), targets.index_select(0, rows))
        for mix, context in zip(self.mixes, contexts[len(self.transforms) :], strict=True):
            batch = mix.apply(batch, mix.parameters(with_image_size(context, batch[0])), self.num_classes or 0)
        return batch

    def _transform(self, inputs: Tensor, rows: Tensor, contexts: Sequence[TransformContext]) -> Tensor:
        """Return the transformed images, in 0..max_value."""
        fused, done = self._fused, 0
        if fused and self.use_copies and fused.size(inputs) and fused.prepare(inputs, self.channels_last):
            done = fused.steps
            images = fused.gather(rows, contexts[:done], self.channels_last)
        else:
            images = select_rows(inputs, rows).contiguous()
        unit = False  # True once the images are floats in 0..1
        for transform, context in list(zip(self.transforms, contexts, strict=False))[done:]:
            if not transform.exact and not unit:
                images, unit = images.to(torch.float32).div_(self.max_value), True
            was_integer = not images.is_floating_point()
            images = transform(images, with_image_size(context, images))
            unit = unit or (was_integer and images.is_floating_point())
        return images * self.max_value if unit else images


def with_image_size(context: TransformContext, images: Tensor) -> TransformContext:
    """Return the context with the current size of the images."""
    height, width = images.shape[-2:]
    same = (height, width) == (context.height, context.width)
    return context if same else replace(context, height=height, width=width)


def select_rows(inputs: Tensor, rows: Tensor) -> Tensor:
    """Return rows of the images in the memory layout of `inputs`, because copying complete rows is fastest."""
    count, channels, height, width = inputs.shape
    if channels > 1 and inputs.is_contiguous(memory_format=torch.channels_last):
        flat = inputs.permute(0, 2, 3, 1).view(count, -1).index_select(0, rows)
        return flat.view(-1, height, width, channels).permute(0, 3, 1, 2)
    return inputs.index_select(0, rows)

"""Augmentation of whole batches: a chain of transformations as the training loader's preparation."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.augmentation.mix import Mix
from datamodules.augmentation.padded_store import PaddedStore
from datamodules.augmentation.transform import Draw, Transform
from datamodules.serving.batches import Batch, Chosen, PickedRows


class PixelRows(PickedRows):
    """Picks images (C, H, W) and brings them into the memory layout that the model wants, then `normalise`."""

    def __init__(self, normalise: Callable[[Tensor, Tensor], Batch], channels_last: bool = False) -> None:
        super().__init__(normalise)
        self.normalise = normalise
        self.channels_last = channels_last

    def __call__(self, inputs: Tensor, targets: Tensor, chosen: Chosen) -> Batch:
        """The plain batch."""
        return self.normalise(self.laid_out(pick(inputs, chosen.rows)), targets.index_select(0, chosen.rows))

    def laid_out(self, images: Tensor) -> Tensor:
        """In the wanted layout; cheapest while a pixel is a byte."""
        if not self.channels_last:
            return images.contiguous()
        count, channels, height, width = images.shape
        if channels == 1:  # the same bytes under other strides
            return images.contiguous().view(count, height, width, 1).permute(0, 3, 1, 2)
        return images.contiguous(memory_format=torch.channels_last)


class AugmentedRows(PixelRows):
    """Picks images, transforms them, normalises them, mixes them.

    Where the chain begins with crop and flip, in any order, and copies are allowed, one gather from a padded copy of
    the images picks, crops and flips.
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        mixes: Sequence[Mix],
        normalise: Callable[[Tensor, Tensor], Batch],
        *,
        max_value: int = 255,
        num_classes: int | None = None,
        run_seed: int = 0,
        channels_last: bool = False,
    ) -> None:
        """`normalise` gets images in 0..max_value, bytes where nothing needed more; `mixes` its batch."""
        super().__init__(normalise, channels_last)
        if mixes and num_classes is None:
            raise MisconfigurationException(f"augment: {mixes[0].name} mixes classes, and these data have none.")
        self.transforms = list(transforms)
        self.mixes = list(mixes)
        self.max_value = max_value
        self.num_classes = num_classes
        self.run_seed = run_seed
        steps: list[Transform | Mix] = [*self.transforms, *self.mixes]
        self.columns = sum(step.columns for step in steps)
        self.whole_batch = any(step.whole_batch for step in steps)
        self._widths = [step.columns for step in steps]
        self._store = PaddedStore.of(self.transforms)
        self._copies = False

    def extra_bytes(self, inputs: Tensor) -> int:
        """Of the padded copy; 0 where there is no use for it or it would be too large beside the data."""
        return self._store.size(inputs) if self._store else 0

    def allow_copies(self, allowed: bool) -> None:
        """Whether the padded copy may be made."""
        self._copies = allowed

    def __call__(self, inputs: Tensor, targets: Tensor, chosen: Chosen) -> Batch:
        """The augmented batch."""
        rows, uniforms, seed, epoch, samples = chosen
        if uniforms is None:
            uniforms = torch.empty(len(rows), 0, device=rows.device)
        height, width = inputs.shape[2:]
        draws = [
            Draw(own, rows if samples is None else samples, height, width, epoch, seed, self.run_seed)
            for own in torch.split(uniforms, self._widths, 1)
        ]
        images = self._transformed(inputs, rows, draws)
        batch = self.normalise(self.laid_out(images), targets.index_select(0, rows))
        for mix, draw in zip(self.mixes, draws[len(self.transforms) :], strict=True):
            batch = mix.apply(batch, mix.parameters(fitted(draw, batch[0])), self.num_classes or 0)
        return batch

    def _transformed(self, inputs: Tensor, rows: Tensor, draws: Sequence[Draw]) -> Tensor:
        """Images in 0..max_value."""
        store, done = self._store, 0
        if store and self._copies and store.size(inputs) and store.holds(inputs, self.channels_last):
            done = store.steps
            images = store.gather(rows, draws[:done], self.channels_last)
        else:
            images = pick(inputs, rows).contiguous()
        unit = False  # whether they are floats in 0..1 by now
        for transform, draw in list(zip(self.transforms, draws, strict=False))[done:]:
            if not transform.exact and not unit:
                images, unit = images.to(torch.float32).div_(self.max_value), True
            bytes_before = not images.is_floating_point()
            images = transform(images, fitted(draw, images))
            unit = unit or (bytes_before and images.is_floating_point())
        return images * self.max_value if unit else images


def fitted(draw: Draw, images: Tensor) -> Draw:
    """The draw for images of the size that these have by now."""
    height, width = images.shape[-2:]
    same = (height, width) == (draw.height, draw.width)
    return draw if same else replace(draw, height=height, width=width)


def pick(inputs: Tensor, rows: Tensor) -> Tensor:
    """Rows of the store. A store in channels-last layout is picked from as it lies: whole rows are copied fastest."""
    count, channels, height, width = inputs.shape
    if channels > 1 and inputs.is_contiguous(memory_format=torch.channels_last):
        flat = inputs.permute(0, 2, 3, 1).view(count, -1).index_select(0, rows)
        return flat.view(-1, height, width, channels).permute(0, 3, 1, 2)
    return inputs.index_select(0, rows)

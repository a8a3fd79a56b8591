"""Selection, crop and flip of images in one gather."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.augmentation.geometry import Crop, Flip, gather_slices, pad
from datamodules.augmentation.transform import Transform, TransformContext

SPARE_BYTES = 100 * 2**20  # the copy may have as many bytes as the data, plus these
COPY_CHUNK = 4096  # images copied at a time


class FusedCropFlip:
    """A padded copy of all images, also flipped if needed, for transforms that begin with a crop, a flip or both.

    A batch is one gather: the crop of a sample starts at some byte, and each of its rows at a fixed offset from there.
    """

    def __init__(self, crop: Crop | None, flip: Flip | None, crop_first: bool) -> None:
        self.crop = crop
        self.flip = flip
        self.crop_first = crop_first
        self.steps = (crop is not None) + (flip is not None)
        self.padding = crop.padding if crop else 0
        self.orientations = 1 if flip is None else 2
        self._source: Tensor | None = None
        self._copy = self._offsets = torch.empty(0)

    @classmethod
    def of(cls, transforms: Sequence[Transform]) -> FusedCropFlip | None:
        """Return the fusion of the crop and flip that the transforms begin with; None if they begin with neither."""
        first, second = [*transforms[:2], None, None][:2]
        if isinstance(first, Crop):
            return cls(first, second if isinstance(second, Flip) else None, crop_first=True)
        if isinstance(first, Flip):
            return cls(second if isinstance(second, Crop) else None, first, crop_first=False)
        return None

    def size(self, inputs: Tensor) -> int:
        """Return the size of the copy in bytes; 0 if it is too large compared with the data."""
        height, width = (extent + 2 * self.padding for extent in inputs.shape[2:])
        data = inputs.numel() * inputs.element_size()
        size = data * self.orientations * height * width // (inputs.shape[2] * inputs.shape[3])
        return size if size <= data + SPARE_BYTES else 0

    def prepare(self, inputs: Tensor, channels_last: bool) -> bool:
        """Make the copy in the first call; return True if it is a copy of these images."""
        if self._source is None:
            self._source = inputs
            self._fill(inputs, channels_last)
        return self._source is inputs

    def _fill(self, inputs: Tensor, channels_last: bool) -> None:
        count, channels, height, width = inputs.shape
        tall, wide = height + 2 * self.padding, width + 2 * self.padding
        rows = torch.arange(height, device=inputs.device) * wide
        if channels_last:
            self._copy = inputs.new_empty((count, self.orientations, tall, wide, channels))
            images, self._offsets = self._copy.permute(0, 1, 4, 2, 3), rows * channels
        else:
            images = self._copy = inputs.new_empty((count, self.orientations, channels, tall, wide))
            self._offsets = (torch.arange(channels, device=inputs.device).view(-1, 1) * (tall * wide) + rows).view(-1)
        for start in range(0, count, COPY_CHUNK):
            chunk = slice(start, start + COPY_CHUNK)
            padded = pad(inputs[chunk], self.padding, self.crop.mode if self.crop else "zeros")
            images[chunk, 0] = padded
            if self.flip:
                images[chunk, 1] = padded.flip(3)

    def gather(self, rows: Tensor, contexts: Sequence[TransformContext], channels_last: bool) -> Tensor:
        """Return the images of `rows`, cropped and flipped with the first `steps` contexts."""
        height, width = contexts[0].height, contexts[0].width
        wide, channels = width + 2 * self.padding, self._copy.shape[-1 if channels_last else 2]
        start = rows * self.orientations
        crop_context, flip_context = contexts[0 if self.crop_first else -1], contexts[-1 if self.crop_first else 0]
        flipped = self.flip.parameters(flip_context)[0] if self.flip else None
        if flipped is not None:
            start = start + flipped
        start = start * (self._copy.numel() // (len(self._copy) * self.orientations))
        if self.crop:
            top, left = self.crop.parameters(crop_context)
            if self.crop_first and flipped is not None:
                left = torch.where(flipped, 2 * self.padding - left, left)
            start = start + (top * wide + left) * (channels if channels_last else 1)
        if channels_last:
            images = gather_slices(self._copy, start, self._offsets, width * channels)
            return images.view(-1, height, width, channels).permute(0, 3, 1, 2)
        return gather_slices(self._copy, start, self._offsets, width).view(-1, channels, height, width)

"""Picking, cropping and flipping in one gather."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.augmentation.geometry import Crop, Flip, pad, pieces
from datamodules.augmentation.transform import Draw, Transform

FACTOR, SPARE = 1, 100 * 2**20  # the copy may take as many bytes as the data, and this much more
CHUNK = 4096  # images copied at a time


class PaddedStore:
    """All images padded, in both orientations where they may be flipped, for a chain that begins with crop and flip.

    A batch is one gather of rows: the window of a sample begins at some byte, and each of its rows some bytes later.
    """

    def __init__(self, crop: Crop | None, flip: Flip | None, crop_first: bool) -> None:
        self.crop = crop
        self.flip = flip
        self.crop_first = crop_first
        self.steps = (crop is not None) + (flip is not None)
        self.padding = crop.padding if crop else 0
        self._source: Tensor | None = None
        self._store = self._offsets = torch.empty(0)

    @classmethod
    def of(cls, transforms: Sequence[Transform]) -> PaddedStore | None:
        """For the crop and the flip that a chain begins with; None if it does not."""
        first, second = [*transforms[:2], None, None][:2]
        if isinstance(first, Crop):
            return cls(first, second if isinstance(second, Flip) else None, crop_first=True)
        if isinstance(first, Flip):
            return cls(second if isinstance(second, Crop) else None, first, crop_first=False)
        return None

    def size(self, inputs: Tensor) -> int:
        """Bytes of the copy; 0 where it would be too large beside the data."""
        height, width = (extent + 2 * self.padding for extent in inputs.shape[2:])
        data = inputs.numel() * inputs.element_size()
        size = data * self._orientations * height * width // (inputs.shape[2] * inputs.shape[3])
        return size if size <= FACTOR * data + SPARE else 0

    @property
    def _orientations(self) -> int:
        return 1 if self.flip is None else 2

    def holds(self, inputs: Tensor, channels_last: bool) -> bool:
        """Make the copy at the first call; later, whether these are the images it was made of."""
        if self._source is None:
            self._source = inputs
            self._fill(inputs, channels_last)
        return self._source is inputs

    def _fill(self, inputs: Tensor, channels_last: bool) -> None:
        count, channels, height, width = inputs.shape
        tall, wide = height + 2 * self.padding, width + 2 * self.padding
        rows = torch.arange(height, device=inputs.device) * wide
        if channels_last:
            self._store = inputs.new_empty((count, self._orientations, tall, wide, channels))
            images, self._offsets = self._store.permute(0, 1, 4, 2, 3), rows * channels
        else:
            images = self._store = inputs.new_empty((count, self._orientations, channels, tall, wide))
            self._offsets = (torch.arange(channels, device=inputs.device).view(-1, 1) * (tall * wide) + rows).view(-1)
        for start in range(0, count, CHUNK):
            part = slice(start, start + CHUNK)
            padded = pad(inputs[part], self.padding, self.crop.mode if self.crop else "zeros")
            images[part, 0] = padded
            if self.flip:
                images[part, 1] = padded.flip(3)

    def gather(self, rows: Tensor, draws: Sequence[Draw], channels_last: bool) -> Tensor:
        """The images of `rows`, cropped and flipped as the first `steps` draws say, in the layout of the copy."""
        height, width = draws[0].height, draws[0].width
        wide, channels = width + 2 * self.padding, self._store.shape[-1 if channels_last else 2]
        start = rows * self._orientations
        crop_draw, flip_draw = (draws[0], draws[-1]) if self.crop_first else (draws[-1], draws[0])
        flipped = self.flip.parameters(flip_draw)[0] if self.flip else None
        if flipped is not None:
            start = start + flipped
        start = start * (self._store.numel() // (len(self._store) * self._orientations))
        if self.crop:
            top, left = self.crop.parameters(crop_draw)
            if self.crop_first and flipped is not None:
                left = torch.where(flipped, 2 * self.padding - left, left)
            start = start + (top * wide + left) * (channels if channels_last else 1)
        if channels_last:
            images = pieces(self._store, start, self._offsets, width * channels)
            return images.view(-1, height, width, channels).permute(0, 3, 1, 2)
        return pieces(self._store, start, self._offsets, width).view(-1, channels, height, width)

"""Image folders, one per class, decoded once into a cache that later runs memory-map."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.base import Split
from datamodules.files.decode_cache import DecodedImages, decoded_images
from datamodules.files.image_files import read_image
from datamodules.files.image_listing import Listing, class_folders, list_images
from datamodules.files.parallel_decoding import ImageSpec
from datamodules.files.paths import data_root
from datamodules.pixels import PixelDataModule
from datamodules.serving.batches import Batch

_BLOCK_BYTES = 1 << 22  # of images that are counted at once


class ImageFolderDataModule(PixelDataModule):
    """Images below `train/<class>/` and `test/<class>/`; the folder names are the class names.

    The first run decodes them into a cache, which later runs memory-map (less than 1 s for 60,000 files). If a file is
    changed, added or removed, the images are decoded again. If there are folders `val/<class>/`, their images are the
    validation split. Otherwise it is sampled from the training images as set by `val_split`.
    """

    def __init__(
        self,
        data_dir: str | None = None,
        image_size: int | list[int] | None = None,
        channels: Literal[1, 3] = 3,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        **options: Any,
    ) -> None:
        """Check the arguments without reading any file.

        Args:
            data_dir: folder that contains train/ and test/; by default LITLAB_DATA_DIR, else ./data.
            image_size: side length, or [height, width], to which images are center-cropped and resized; by default
                their own size, which must be the same for all images.
            channels: 3 for color, 1 for gray.
            mean: mean of each channel, for values from 0 to 1; by default that of the training images.
            std: standard deviation of each channel; by default that of the training images.
            **options: arguments of every datamodule, see `LitDataModule`.
        """
        super().__init__(**options)
        if channels not in (1, 3):
            raise MisconfigurationException(
                f"channels must be 3 (color) or 1 (gray), got {channels!r}. Set --data.channels 3."
            )
        sides = [image_size] * 2 if isinstance(image_size, int) else image_size
        if sides is not None and (len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides)):
            raise MisconfigurationException(
                f"image_size must be a positive integer or [height, width], got {image_size!r}. "
                "Set --data.image_size 64."
            )
        if (mean is None) != (std is None):
            raise MisconfigurationException(
                f"mean and std must be set together, got {mean} and {std}. Set both --data.mean and --data.std, or "
                "neither to use the training images."
            )
        if mean is not None and std is not None:
            if len(mean) != channels or len(std) != channels or min(std) <= 0:
                raise MisconfigurationException(
                    f"mean and std must have one value for each of the {channels} channels, and std must be above 0, "
                    f"got {mean} and {std}. Change --data.mean and --data.std."
                )
            self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self._chosen = mean is not None
        self._counts_validation = False
        self._decoded: DecodedImages | None = None  # training images, until their mean is computed
        self.root = data_root(data_dir)
        self.channels = channels
        self._sides = sides
        self._listings: dict[Split, Listing] = {}
        self._digests: dict[Split, str] = {}

    @cached_property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Sorted names of the folders below train/."""
        names = class_folders(self.root / "train")
        if len(names) == 1:
            raise MisconfigurationException(
                f"data: {self.root / 'train'} contains only one class folder, {names[0]}. Put the images of a second "
                "class into a folder next to it."
            )
        return names

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """Number of class folders below train/."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(channels, height, width), from the arguments, else from the first readable training image."""
        return self._spec.shape

    def prepare_data(self) -> None:
        """Check the class folders; images are decoded later, when they are needed."""
        for name in ("valid", "validation"):
            if (self.root / name).is_dir() and not (self.root / "val").is_dir():
                raise MisconfigurationException(
                    f"data: {self.root / name} would be ignored, because validation images must be in val/. Rename it."
                )
        _ = self.class_names

    def load_part(self, split: Split) -> Batch:
        """Return images uint8 `(N, C, H, W)` and labels `(N,)`, sorted by class and name; images of val/ are last."""
        decoded = self._decode(split)
        self.mapped = decoded.mapped
        self._digests[split] = decoded.digest
        self._decoded = decoded if split == "train" else self._decoded
        return decoded.images, self._listing(split).labels

    def setup(self, stage: str) -> None:
        """Load the data of a stage, and compute mean and standard deviation unless they are known."""
        super().setup(stage)
        _ = self.mean, self.std
        self._decoded = None

    def use_model_properties(self, saved: Mapping[str, Any]) -> None:
        """Use the class order, mean and standard deviation of the run."""
        # Runs of litlab 0.1 stored no properties, and normalized with the validation images of train/ too.
        self._counts_validation = not saved
        chosen = [list(self.mean), list(self.std)] if self._chosen else None
        super().use_model_properties(saved)
        if chosen not in (None, [saved.get("mean"), saved.get("std")]) and saved:
            raise MisconfigurationException(
                f"mean and std must be those of the run ({saved.get('mean')} and {saved.get('std')}), got {chosen[0]} "
                f"and {chosen[1]}. Remove --data.mean and --data.std."
            )

    def use_class_order(self, names: tuple[str, ...]) -> None:
        """Number the class folders in the order of these names."""
        self.class_names = names
        self._listings.clear()

    @property
    def source(self) -> str:
        """The name and the folder of the data in messages."""
        return f"{type(self).__name__} in {self.root}"

    def split(self, num_samples: int, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images of val/ as the validation split if there are any, else split those of train/."""
        count = self._listing("train").validation
        if not count:
            return super().split(num_samples, targets)
        indices = torch.arange(num_samples)
        if not self.val_split:
            return indices[:-count], indices[:0]
        rank_zero_info(f"Using the {count:,} images of {self.root / 'val'} for validation; val_split has no effect.")
        return indices[:-count], indices[-count:]

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 hashes of the loaded data; those of the images were computed during decoding."""
        for split, digest in self._digests.items():
            self._hashes.setdefault(f"{split}_data", digest)
        return super().hashes()

    @cached_property
    def _spec(self) -> ImageSpec:
        if self._sides is not None:
            return ImageSpec(self.channels, self._sides[0], self._sides[1], resized=True)
        listing = self._listing("train")
        reasons: list[str] = []
        for name in listing.names:
            try:
                _, height, width = read_image(str(self.root / name), self.channels).shape
            except Exception as error:  # decoding the images reports it, with all other unreadable files
                reasons.append(str(error) or type(error).__name__)
                continue
            return ImageSpec(self.channels, height, width, resized=False)
        raise MisconfigurationException(
            f"data: none of the {len(listing):,} images below {self.root / 'train'} can be read, starting with "
            f"{self.root / listing.names[0]} ({reasons[0]}). Replace them."
        )

    def _listing(self, split: Split) -> Listing:
        if split not in self._listings:
            folders = [split, "val"] if split == "train" and (self.root / "val").is_dir() else [split]
            listing = self._listings[split] = list_images(self.root, folders, self.class_names)
            if listing.skipped:
                what = ", ".join(f"{number:,} {reason}" for reason, number in sorted(listing.skipped.items()))
                where = " and ".join(str(self.root / folder) for folder in folders)
                rank_zero_info(f"Found {len(listing):,} images in {where}; skipping {what}.")
        return self._listings[split]

    def _decode(self, split: Split) -> DecodedImages:
        return decoded_images(self._listing(split), self._spec, split)

    @cached_property
    def mean(self) -> tuple[float, ...]:  # type: ignore[override]
        """Mean of each channel of the training split, for values from 0 to 1."""
        return self._mean_and_std[0]

    @cached_property
    def std(self) -> tuple[float, ...]:  # type: ignore[override]
        """Standard deviation of each channel of the training split; 1 for a constant channel."""
        return self._mean_and_std[1]

    @cached_property
    def _mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Exact values from the number of pixels of each value."""
        counts = self._training_counts().double()
        values = torch.arange(256, dtype=torch.float64) / self.max_value
        frequencies = counts / counts.sum(1, keepdim=True)
        mean = frequencies @ values
        std = (frequencies * (values - mean.unsqueeze(1)) ** 2).sum(1).sqrt()
        std[std == 0] = 1.0  # do not scale a constant channel
        return tuple(mean.tolist()), tuple(std.tolist())

    def _training_counts(self) -> Tensor:
        """Return int64 `(C, 256)`, the number of pixels of each value in the training split.

        The cache contains the counts of all images of train/, so at most half of these images are read here.
        """
        listing, decoded = self._listing("train"), self._decoded or self._decode("train")
        if self._counts_validation:
            return decoded.counts
        train, _ = self._split_indices or self._shrunk_split(len(listing), listing.labels)
        others = torch.ones(len(listing) - listing.validation, dtype=torch.bool)
        others[train] = False
        if 2 * len(train) < len(others):
            return pixel_counts(decoded.images, train)
        return decoded.counts - pixel_counts(decoded.images, others.nonzero().squeeze(1))


def pixel_counts(images: Tensor, indices: Tensor) -> Tensor:
    """Return int64 `(C, 256)`: the number of pixels of each value in the selected images."""
    counts = np.zeros((images.shape[1], 256), np.int64)
    for block in torch.split(indices, max(1, _BLOCK_BYTES // images[0].numel())):
        for count, channel in zip(counts, images[block].unbind(1), strict=True):
            values = channel.flatten().numpy()
            # Counting pairs of values takes a quarter of the time of counting values.
            pairs = np.bincount(values[: len(values) // 2 * 2].view(np.uint16), minlength=1 << 16).reshape(256, 256)
            count += pairs.sum(0) + pairs.sum(1)
            count += np.bincount(values[len(values) // 2 * 2 :], minlength=256)
    return torch.from_numpy(counts)

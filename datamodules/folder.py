"""Folders of image files, one folder for each class: decoded once into a file that later runs map."""

from functools import cached_property
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.base import Part
from datamodules.files.decode_cache import DecodedImages, decoded_images
from datamodules.files.decode_pass import ImageForm
from datamodules.files.image_files import read_image
from datamodules.files.image_listing import Listing, class_folders, list_images
from datamodules.files.places import data_root
from datamodules.pixels import PixelDataModule
from datamodules.serving.batches import Batch


class ImageFolderDataModule(PixelDataModule):
    """Images of any format of Pillow below `train/<class>/` and `test/<class>/`; the folders' names are the classes.

    The first run decodes them into a cache, which later runs map: less than a second for 60,000 files, and nothing
    held in memory that does not fit. Whoever changes, adds or removes a file has them decoded again.
    If there is a folder `val/<class>/`, it is the validation part, and nothing is split off the training images.
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
        """Check the arguments; no file is read.

        Args:
            data_dir: folder that holds train/ and test/; default LITLAB_DATA_DIR, else ./data.
            image_size: side of the square, or height and width, that all images are cut (at the centre) and resized
                to; default their own size, which must be the same then.
            channels: 3 for colour, 1 for grey.
            mean: of each channel, of values from 0 to 1; default that of the training images.
            std: of each channel; default that of the training images.
            **options: arguments of every datamodule, see `LitDataModule`.
        """
        super().__init__(**options)
        if channels not in (1, 3):
            raise MisconfigurationException(f"channels: {channels!r} is not possible. Give 3 for colour, 1 for grey.")
        sides = [image_size] * 2 if isinstance(image_size, int) else image_size
        if sides is not None and (len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides)):
            raise MisconfigurationException(
                f"image_size: {image_size!r} is not possible. Give one whole number, or two: height and width."
            )
        if (mean is None) != (std is None):
            raise MisconfigurationException("mean, std: give both, or neither to take those of the training images.")
        if mean is not None and std is not None:
            if len(mean) != channels or len(std) != channels or min(std) <= 0:
                raise MisconfigurationException(
                    f"mean, std: {mean} and {std} are not possible. Give a number for each of the {channels} channels, "
                    "std above 0."
                )
            self.mean, self.std = tuple(mean), tuple(std)
        self.root = data_root(data_dir)
        self.channels = channels
        self._sides = sides
        self._listings: dict[Part, Listing] = {}
        self._digests: dict[Part, str] = {}

    @cached_property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the folders below train/, sorted."""
        names = class_folders(self.root / "train")
        if len(names) == 1:
            raise MisconfigurationException(
                f"data: {self.root / 'train'} holds one class folder, {names[0]}, and nothing to tell it from. Put the "
                "images of a second class into a folder beside it."
            )
        return names

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """Number of folders below train/."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(channels, height, width): as asked for, else those of the first training image that can be read."""
        return self._form.shape

    def prepare_data(self) -> None:
        """See that the classes are there; the images are decoded when they are needed."""
        for name in ("valid", "validation"):
            if (self.root / name).is_dir() and not (self.root / "val").is_dir():
                raise MisconfigurationException(
                    f"data: {self.root / name} would not be used: the validation images are looked for in val/. "
                    "Rename it."
                )
        _ = self.class_names

    def load_part(self, part: Part) -> Batch:
        """Images uint8 (N, C, H, W), mapped, and labels (N,): by class and name, validation images after the others."""
        decoded = self._decode(part)
        self.mapped = decoded.mapped
        self._digests[part] = decoded.digest
        if not hasattr(self, "mean"):
            self._take_statistics(decoded if part == "train" else self._decode("train"))
        return decoded.images, self._listing(part).labels

    def split(self, num_samples: int, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The images of val/ if there are any, else a part of those of train/."""
        count = self._listing("train").validation
        if not count:
            return super().split(num_samples, targets)
        indices = torch.arange(num_samples)
        if not self.val_split:
            return indices[:-count], indices[:0]
        rank_zero_info(f"{self.root / 'val'} is the validation part: {count:,} images; val_split is not used.")
        return indices[:-count], indices[-count:]

    def hashes(self) -> dict[str, str]:
        """SHA-256 of what is loaded so far, as of every datamodule; that of the images was taken when decoding."""
        for part, digest in self._digests.items():
            self._hashes.setdefault(f"{part}_data", digest)
        return super().hashes()

    @cached_property
    def _form(self) -> ImageForm:
        if self._sides is not None:
            return ImageForm(self.channels, self._sides[0], self._sides[1], resized=True)
        listing = self._listing("train")
        for name in listing.names:
            try:
                _, height, width = read_image(str(self.root / name), self.channels).shape
            except Exception:  # named, with all others that are damaged, when the images are decoded
                continue
            return ImageForm(self.channels, height, width, resized=False)
        raise MisconfigurationException(
            f"data: none of the {len(listing):,} images below {self.root / 'train'} can be read, the first is "
            f"{self.root / listing.names[0]}. Replace them."
        )

    def _listing(self, part: Part) -> Listing:
        if part not in self._listings:
            parts = [part, "val"] if part == "train" and (self.root / "val").is_dir() else [part]
            self._listings[part] = list_images(self.root, parts, self.class_names)
        return self._listings[part]

    def _decode(self, part: Part) -> DecodedImages:
        return decoded_images(self._listing(part), self._form, part)

    def _take_statistics(self, decoded: DecodedImages) -> None:
        """Mean and deviation of all pixels of the training images, exactly, from how often each value occurs."""
        counts = decoded.counts.double()
        values = torch.arange(256, dtype=torch.float64) / self.max_value
        share = counts / counts.sum(1, keepdim=True)
        mean = share @ values
        std = (share * (values - mean.unsqueeze(1)) ** 2).sum(1).sqrt()
        std[std == 0] = 1.0  # a channel of one value: nothing to scale
        self.mean, self.std = tuple(mean.tolist()), tuple(std.tolist())

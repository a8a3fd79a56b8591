"""MNIST, Fashion-MNIST and CIFAR-10, read by torchvision."""

from abc import abstractmethod
from typing import Any

import torch
import torchvision
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torchvision.datasets import VisionDataset

from datamodules.base import Split
from datamodules.checks import check_samples
from datamodules.files.find_dataset import find_dataset
from datamodules.files.read_dataset import read_dataset
from datamodules.pixels import PixelDataModule
from datamodules.serving.batches import Batch


class ImageDataModule(PixelDataModule):
    """Base for torchvision's datasets of small images; a subclass only sets data properties.

    The files are in `data_dir`, by default LITLAB_DATA_DIR, else ./data.
    """

    @property
    @abstractmethod
    def dataset_class(self) -> type[VisionDataset]:
        """A torchvision dataset with `data` and `targets`, constructed by `dataset_class(root, train=...)`."""

    def __init__(self, data_dir: str | None = None, download: bool = True, **options: Any) -> None:
        """Store the arguments without searching for the files.

        Args:
            data_dir: folder that contains the dataset's own folder; by default LITLAB_DATA_DIR, else ./data.
            download: download missing files.
            **options: arguments of every datamodule, see `LitDataModule`.
        """
        super().__init__(**options)
        self.data_dir = data_dir
        self.download = download

    def prepare_data(self) -> None:
        """Find the files; unpack or download them if they are missing."""
        self.root()

    def root(self) -> str:
        """Return the folder to pass to `dataset_class`."""
        return str(find_dataset(self.dataset_class, self.data_dir, self.download))

    def load_part(self, split: Split) -> Batch:
        """Return images uint8 `(N, C, H, W)` and labels `(N,)` of the official train or test split."""
        dataset: Any = read_dataset(self.dataset_class, self.root(), split)
        images, targets = torch.as_tensor(dataset.data), torch.as_tensor(dataset.targets)
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
        what = f"{self.dataset_class.__name__}'s {split} files in {self.root()}"
        if images.shape[1:] != self.input_shape:
            raise MisconfigurationException(
                f"data: {what} contain {len(images)} images of shape {tuple(images.shape[1:])}, expected "
                f"{self.input_shape}. Replace these files."
            )
        check_samples(what, images, targets, self.num_classes, "Replace the corrupted file.")
        return images, targets


class MNISTDataModule(ImageDataModule):
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, gray 28x28 (LeCun et al. 1998)."""

    dataset_class = torchvision.datasets.MNIST
    input_shape = (1, 28, 28)
    num_classes = 10
    class_names = tuple("0123456789")
    mean, std = (0.1307,), (0.3081,)


class FashionMNISTDataModule(ImageDataModule):
    """Fashion-MNIST: 60,000 training and 10,000 test images of ten kinds of clothing, gray 28x28 (arXiv:1708.07747)."""

    dataset_class = torchvision.datasets.FashionMNIST
    input_shape = (1, 28, 28)
    num_classes = 10
    class_names = tuple(torchvision.datasets.FashionMNIST.classes)
    mean, std = (0.2860,), (0.3530,)


class CIFAR10DataModule(ImageDataModule):
    """CIFAR-10: 50,000 training and 10,000 test images of animals and vehicles, color 32x32 (Krizhevsky 2009)."""

    dataset_class = torchvision.datasets.CIFAR10
    input_shape = (3, 32, 32)
    num_classes = 10
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

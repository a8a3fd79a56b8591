"""Datamodules: datasets, their splits and their dataloaders."""

from pkgutil import extend_path

from datamodules.base import LitDataModule
from datamodules.digits import DigitsDataModule
from datamodules.folder import ImageFolderDataModule
from datamodules.pixels import PixelDataModule
from datamodules.serving.loader import InMemoryLoader
from datamodules.synthetic import LineDataModule, NoisyRegressionDataModule, SineDataModule, SyntheticDataModule
from datamodules.synthetic_classes import MoonsDataModule, PlanesDataModule, PureNoiseDataModule, ThresholdDataModule
from datamodules.text import TextDataModule
from datamodules.vision import CIFAR10DataModule, FashionMNISTDataModule, ImageDataModule, MNISTDataModule

__path__ = extend_path(__path__, __name__)  # a project's folder of this name, see litlab.packages

__all__ = [
    "CIFAR10DataModule",
    "DigitsDataModule",
    "FashionMNISTDataModule",
    "ImageDataModule",
    "ImageFolderDataModule",
    "InMemoryLoader",
    "LineDataModule",
    "LitDataModule",
    "MNISTDataModule",
    "MoonsDataModule",
    "NoisyRegressionDataModule",
    "PixelDataModule",
    "PlanesDataModule",
    "PureNoiseDataModule",
    "SineDataModule",
    "SyntheticDataModule",
    "TextDataModule",
    "ThresholdDataModule",
]

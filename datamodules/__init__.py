"""Datamodules: where the samples of an experiment come from, how they are split and served."""

from datamodules.base import LitDataModule
from datamodules.digits import DigitsDataModule
from datamodules.folder import ImageFolderDataModule
from datamodules.pixels import PixelDataModule
from datamodules.serving.loader import InMemoryLoader
from datamodules.synthetic import LineDataModule, NoisyRegressionDataModule, SineDataModule, SyntheticDataModule
from datamodules.synthetic_classes import (
    MoonsDataModule,
    PlanesDataModule,
    PureNoiseDataModule,
    ThresholdDataModule,
)
from datamodules.text import TextDataModule
from datamodules.vision import CIFAR10DataModule, FashionMNISTDataModule, ImageDataModule, MNISTDataModule

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

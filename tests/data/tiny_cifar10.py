"""Tiny CIFAR-10: torchvision's reader with the checksums of `makers.make_cifar10`."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

from torchvision.datasets import CIFAR10

from datamodules import CIFAR10DataModule
from tests.data.makers import cifar10_files

MD5 = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in cifar10_files().items()}


class TinyCIFAR10(CIFAR10):
    """CIFAR10 with the checksums of the tiny files."""

    train_list: ClassVar[list[Any]] = [[f"data_batch_{i}", MD5[f"data_batch_{i}"]] for i in range(1, 6)]
    test_list: ClassVar[list[Any]] = [["test_batch", MD5["test_batch"]]]
    meta: ClassVar[dict[str, str]] = {"filename": "batches.meta", "key": "label_names", "md5": MD5["batches.meta"]}


class TinyCIFAR10DataModule(CIFAR10DataModule):
    """CIFAR10DataModule of the tiny files: 200 training and 50 test images."""

    dataset_class = TinyCIFAR10

"""Tiny learnable datasets in the real file formats, with the same bytes at every call."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

CIFAR_FOLDER = "cifar-10-batches-py"
CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def pattern_images(count: int, shape: tuple[int, int, int], seed: int) -> tuple[Pixels, Pixels]:
    """Return images (N, C, H, W) and labels 0..9: noise, and a bright cell of a 2 x 5 grid at the class index."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 10).astype(np.uint8)
    images = rng.integers(0, 60, size=(count, *shape), dtype=np.uint8)
    height, width = shape[1] // 2, shape[2] // 5
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 5)
        image[:, row * height : (row + 1) * height, column * width : (column + 1) * width] += 180
    return images, labels


def idx_bytes(array: Pixels) -> bytes:
    """Return an array of unsigned bytes in MNIST's idx format."""
    return struct.pack(f">{array.ndim + 1}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def idx_files(train: int, test: int) -> dict[str, bytes]:
    """Return the contents of MNIST's four files by name."""
    files = {}
    for prefix, count, seed in (("train", train, 0), ("t10k", test, 1)):
        images, labels = pattern_images(count, (1, 28, 28), seed)
        files[f"{prefix}-images-idx3-ubyte"] = idx_bytes(images[:, 0])
        files[f"{prefix}-labels-idx1-ubyte"] = idx_bytes(labels)
    return files


def make_mnist(root: Path | str, train: int = 200, test: int = 50, name: str = "MNIST") -> Path:
    """Write root/MNIST/raw and return that folder."""
    folder = Path(root, name, "raw")
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in idx_files(train, test).items():
        (folder / file).write_bytes(content)
    return folder


def make_fashion_mnist(root: Path | str, train: int = 200, test: int = 50) -> Path:
    """Write root/FashionMNIST/raw and return that folder."""
    return make_mnist(root, train, test, name="FashionMNIST")


def make_gzipped_idx(folder: Path | str, train: int = 200, test: int = 50) -> Path:
    """Write the four files gzipped, like the Debian package and the download sites."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in idx_files(train, test).items():
        (folder / f"{file}.gz").write_bytes(gzip.compress(content, mtime=0))
    return folder


def cifar10_files(per_batch: int = 40, test: int = 50) -> dict[str, bytes]:
    """Return CIFAR-10's seven files by name: five training batches, one test batch, and the class names."""
    files = {}
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for seed, name in enumerate(names):
        images, labels = pattern_images(test if name == "test_batch" else per_batch, (3, 32, 32), seed)
        batch = {
            "batch_label": name,
            "labels": labels.tolist(),
            "data": images.reshape(len(images), -1),
            "filenames": [f"{name}_{i}.png" for i in range(len(images))],
        }
        files[name] = pickle.dumps(batch, protocol=2)
    meta = {"label_names": CIFAR_CLASSES, "num_cases_per_batch": per_batch, "num_vis": 3072}
    files["batches.meta"] = pickle.dumps(meta, protocol=2)
    return files


def make_cifar10(root: Path | str) -> Path:
    """Write root/cifar-10-batches-py and return that folder, for `tiny_cifar10.TinyCIFAR10`."""
    folder = Path(root, CIFAR_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in cifar10_files().items():
        (folder / file).write_bytes(content)
    return folder


def make_image_folder(
    root: Path | str, train: int = 200, test: int = 50, val: int = 0, size: int = 32, ending: str = "jpg"
) -> Path:
    """Write root/train/<class>/0000.jpg etc., with CIFAR's class names, and return the root."""
    for seed, (part, count) in enumerate((("train", train), ("test", test), ("val", val))):
        images, labels = pattern_images(count, (3, size, size), seed)
        numbers = dict.fromkeys(range(10), 0)
        for image, label in zip(images, labels.tolist(), strict=True):
            folder = Path(root, part, CIFAR_CLASSES[label])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{numbers[label]:04d}.{ending}")
            numbers[label] += 1
    return Path(root)

"""Arbitrarily corrupted files give the written data, or one sentence that names the file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torchvision.datasets import MNIST, VisionDataset

from datamodules.files.read_dataset import read_dataset
from datamodules.text import TextDataModule, read_utf8
from tests.data.makers import idx_bytes

quick = settings(max_examples=150, deadline=None, derandomize=True, database=None)
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")


def written(count: int, size: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, size, size), dtype=np.uint8), rng.integers(0, 10, count, dtype=np.uint8)


def read(images: bytes, labels: bytes) -> VisionDataset | MisconfigurationException:
    with tempfile.TemporaryDirectory() as root:
        raw = Path(root, "MNIST/raw")
        raw.mkdir(parents=True)
        for name, content in zip(FILES, (images, labels), strict=True):
            (raw / name).write_bytes(content)
            (raw / name.replace("train", "t10k")).touch()  # torchvision requires them, but does not read them
        try:
            return read_dataset(MNIST, root, "train")
        except MisconfigurationException as error:
            return error


@quick
@given(st.integers(0, 12), st.integers(0, 9), st.integers(0, 99))
def test_written_files_are_read_back(count: int, size: int, seed: int) -> None:
    images, labels = written(count, size, seed)
    found: Any = read(idx_bytes(images), idx_bytes(labels))
    if isinstance(found, MisconfigurationException):
        assert 0 in images.shape, found
        return
    assert torch.equal(found.data, torch.from_numpy(images))
    assert torch.equal(found.targets, torch.from_numpy(labels).long())


@quick
@given(st.data(), st.sampled_from([0, 1]), st.integers(1, 4), st.sampled_from(["cut", "longer", "header"]))
def test_a_corrupted_length_or_header_is_reported(data: st.DataObject, which: int, count: int, how: str) -> None:
    images, labels = written(count, 3, 0)
    files = [idx_bytes(images), idx_bytes(labels)]
    original = files[which]
    if how == "cut":
        files[which] = original[: data.draw(st.integers(0, len(original) - 1))]
    elif how == "longer":
        files[which] = original + data.draw(st.binary(min_size=1, max_size=9))
    else:
        position = data.draw(st.integers(0, 15 if which == 0 else 7))
        changed = bytearray(original)
        changed[position] = data.draw(st.integers(0, 255))
        files[which] = bytes(changed)
    found: Any = read(files[0], files[1])
    if files[which] == original:
        assert torch.equal(found.data, torch.from_numpy(images))
        return
    assert isinstance(found, MisconfigurationException)
    assert FILES[which] in str(found)
    assert "\n" not in str(found)


@quick
@given(st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace")), st.booleans())
def test_any_bytes_are_a_text_or_a_user_error(content: bytes, words: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.txt")
        path.write_bytes(content)
        options: Any = {"sequence_length": 2, "batch_size": 2, "val_split": 0, "level": "word" if words else "char"}
        module = TextDataModule(str(path), **options)
        try:
            inputs, targets = module.load_part("train")
        except MisconfigurationException as error:
            assert str(path) in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            return
        assert inputs.shape == targets.shape
        assert not words or len(module.class_names) > 1
        if not words:
            train = read_utf8(path)[: inputs.numel()]
            assert module.decode(inputs.reshape(-1)) == train, "all tokens are known: this is the training split"

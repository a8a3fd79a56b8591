"""MNIST, Fashion-MNIST and CIFAR-10, with tiny files in the real formats."""

from __future__ import annotations

import builtins
import hashlib
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import FashionMNISTDataModule, ImageDataModule, LitDataModule, MNISTDataModule
from tests.data.makers import idx_bytes, make_cifar10, make_fashion_mnist, make_mnist, pattern_images
from tests.data.tiny_cifar10 import TinyCIFAR10, TinyCIFAR10DataModule

MAKERS = {
    MNISTDataModule: make_mnist,
    FashionMNISTDataModule: make_fashion_mnist,
    TinyCIFAR10DataModule: make_cifar10,
}
all_kinds = pytest.mark.parametrize("kind", MAKERS)


def ready(kind: type[ImageDataModule], data: Path, **options: Any) -> ImageDataModule:
    """Return a datamodule after creating its tiny files."""
    MAKERS[kind](data)
    module = kind(download=False, **options)
    module.prepare_data()
    return module


@all_kinds
def test_batches_are_normalized_float_images(kind: type[ImageDataModule], data: Path) -> None:
    module = ready(kind, data, batch_size=32)
    module.setup("fit")
    x, y = next(iter(module.train_dataloader()))
    assert x.shape == (32, *kind.input_shape)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    raw, labels = module.load_part("train")
    assert raw.dtype == torch.uint8
    assert len(raw) == len(labels) == 200
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (kind.mean, kind.std))
    batch, _ = module.prepare_batch(raw, labels)
    assert torch.allclose(batch, (raw.float() / 255 - mean) / std, atol=1e-5)
    assert module.class_names is not None
    assert len(module.class_names) == module.num_classes == 10


@all_kinds
def test_the_data_equals_torchvisions(kind: type[ImageDataModule], data: Path) -> None:
    module = ready(kind, data)
    for part in ("train", "test"):
        reference: Any = module.dataset_class(str(data), train=part == "train")
        images, labels = module.load_part(part)  # type: ignore[arg-type]
        theirs = torch.as_tensor(reference.data)
        assert torch.equal(images, theirs.unsqueeze(1) if theirs.ndim == 3 else theirs.permute(0, 3, 1, 2))
        assert labels.tolist() == list(map(int, reference.targets))


@all_kinds
def test_fit_opens_no_test_file_and_test_no_training_file(
    kind: type[ImageDataModule], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def record(path: Any, *args: Any, **options: Any) -> Any:
            opened.append(os.path.basename(str(path)))
            return original(path, *args, **options)

        monkeypatch.setattr(owner, name, record)

    fit, test = ready(kind, data), kind(download=False)
    watch(builtins, "open")
    watch(Path, "open")
    fit.setup("fit")
    assert opened
    assert not [name for name in opened if "test" in name or "t10k" in name]
    opened.clear()
    test.setup("test")
    assert opened
    assert not [name for name in opened if "train" in name or "data_batch" in name]
    assert test.split_sizes() == {"test": 50}


def test_a_softmax_regression_learns_the_tiny_images(data: Path) -> None:
    module = ready(TinyCIFAR10DataModule, data, batch_size=50)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        for x, y in module.train_dataloader():
            loss = torch.nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def corrupt(kind: type[ImageDataModule], data: Path, file: str, content: bytes) -> LitDataModule:
    """Return a datamodule after overwriting one of its files."""
    folder = MAKERS[kind](data)
    (folder / file).write_bytes(content)
    return kind(download=False)


IMAGES, LABELS = (idx_bytes(array) for array in pattern_images(200, (1, 28, 28), 0))
IMAGES_3D = struct.pack(">4I", 2051, 200, 28, 28) + IMAGES[20:]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("train-images-idx3-ubyte", IMAGES_3D[:5000], r"train-images-idx3-ubyte has 5000 bytes, but its header desc"),
        ("train-images-idx3-ubyte", b"", r"train-images-idx3-ubyte is truncated after 0 bytes"),
        (
            "train-images-idx3-ubyte",
            b"\x1f\x8b" + IMAGES_3D[2:],
            r"train-images-idx3-ubyte is not an idx file of the right",
        ),
        (
            "train-images-idx3-ubyte",
            LABELS,
            r"train-images-idx3-ubyte is not an idx file .*begins with 2049, expected 2051",
        ),
        ("train-labels-idx1-ubyte", LABELS + b"x", r"train-labels-idx1-ubyte has 209 bytes"),
        ("train-labels-idx1-ubyte", LABELS[:-1] + b"\x0b", r"contain the label 11, expected 0 to 9"),
        ("train-labels-idx1-ubyte", struct.pack(">2I", 2049, 7) + bytes(7), r"contain 200 samples but 7 labels"),
        (
            "train-images-idx3-ubyte",
            struct.pack(">4I", 2051, 200, 2, 2) + bytes(800),
            r"of shape \(1, 2, 2\), expected",
        ),
    ],
)
def test_a_corrupted_idx_file_is_named(data: Path, file: str, content: bytes, words: str) -> None:
    module = corrupt(MNISTDataModule, data, file, content)
    module.prepare_data()
    with pytest.raises(MisconfigurationException, match=words) as caught:
        module.setup("fit")
    assert str(data) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_corrupted_test_files_stop_only_a_test(data: Path) -> None:
    module = corrupt(MNISTDataModule, data, "t10k-images-idx3-ubyte", b"no images")
    module.setup("fit")
    with pytest.raises(MisconfigurationException, match="t10k-images-idx3-ubyte"):
        module.setup("test")


@pytest.mark.parametrize("cut", [0, 1000])
def test_a_truncated_cifar_batch_is_named(data: Path, cut: int) -> None:
    full = (make_cifar10(data) / "data_batch_3").read_bytes()
    module = corrupt(TinyCIFAR10DataModule, data, "data_batch_3", full[:cut])
    with pytest.raises(MisconfigurationException, match=rf"data_batch_3 \({cut} bytes\) has the checksum"):
        module.setup("fit")


def test_a_cifar_batch_with_changed_content_is_named(data: Path) -> None:
    content = bytearray((make_cifar10(data) / "data_batch_2").read_bytes())
    content[1000] ^= 1
    module = corrupt(TinyCIFAR10DataModule, data, "data_batch_2", bytes(content))
    with pytest.raises(MisconfigurationException, match=rf"data_batch_2 \({len(content)} bytes\) has the checksum"):
        module.setup("fit")
    assert sorted(path.name for path in data.iterdir()) == ["cifar-10-batches-py"]


def test_a_cifar_label_out_of_range_raises_an_error(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_cifar10(data)
    batch = pickle.loads((folder / "test_batch").read_bytes())
    batch["labels"][3] = 10
    content = pickle.dumps(batch, protocol=2)
    (folder / "test_batch").write_bytes(content)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(TinyCIFAR10, "test_list", [["test_batch", md5]])
    with pytest.raises(MisconfigurationException, match="contain the label 10, expected 0 to 9"):
        TinyCIFAR10DataModule().setup("test")


class Evil:
    """An object that creates a file when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_3", "test_batch", "batches.meta"])
def test_a_cifar_file_that_would_run_code_is_not_unpickled(data: Path, name: str) -> None:
    (make_cifar10(data) / name).write_bytes(pickle.dumps(Evil(), protocol=2))
    stage = "test" if name == "test_batch" else "fit"
    with pytest.raises(MisconfigurationException, match=rf"{name} \(\d+ bytes\) has the checksum"):
        TinyCIFAR10DataModule().setup(stage)
    assert not Path("ran").exists()


def test_torchvision_has_a_checksum_of_every_cifar_file() -> None:
    files = [*torchvision.datasets.CIFAR10.train_list, *torchvision.datasets.CIFAR10.test_list]
    assert all(len(md5) == 32 for _, md5 in files)
    assert len(torchvision.datasets.CIFAR10.meta["md5"]) == 32


def test_data_in_a_read_only_folder_is_read(data: Path) -> None:
    folder = make_mnist(data)
    for path in (folder, folder.parent, data):
        path.chmod(0o555)
    try:
        module = MNISTDataModule()
        module.prepare_data()
        module.setup("fit")
        module.setup("test")
        assert module.split_sizes() == {"train": 160, "val": 40, "test": 50}
    finally:
        for path in (data, folder.parent, folder):
            path.chmod(0o755)


REAL = os.environ.get("LITLAB_DATA_DIR")


@pytest.mark.data
@pytest.mark.skipif(not REAL, reason="LITLAB_DATA_DIR is not set")
@pytest.mark.parametrize("kind", [MNISTDataModule, FashionMNISTDataModule])
def test_the_real_files_have_the_stated_mean_and_standard_deviation(kind: type[ImageDataModule]) -> None:
    module = kind(data_dir=REAL, download=False, val_split=5000, stratify=True)
    module.setup("fit")
    module.setup("test")
    assert module.split_sizes() == {"train": 55000, "val": 5000, "test": 10000}
    x, _ = module.prepare_batch(*module.load_part("train"))
    assert abs(float(x.mean())) < 1e-3
    assert abs(float(x.std()) - 1) < 1e-3
    val = torch.cat([y for _, y in module.val_dataloader()])
    assert (val.bincount() - module.load_part("train")[1].bincount() / 12).abs().max() < 1

"""Finding, unpacking and downloading dataset files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torchvision
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import FashionMNISTDataModule, MNISTDataModule
from datamodules.files.find_dataset import find_dataset
from datamodules.files.paths import cache_root
from tests.data.makers import make_fashion_mnist, make_gzipped_idx, make_mnist
from tests.data.tiny_cifar10 import TinyCIFAR10DataModule

FASHION = torchvision.datasets.FashionMNIST


def mnist_at(url: str, checksums: dict[str, str] | None = None) -> Any:
    """Return torchvision's MNIST, to be downloaded from this address."""
    resources = [(name, (checksums or {}).get(name, md5)) for name, md5 in torchvision.datasets.MNIST.resources]
    return type("MNIST", (torchvision.datasets.MNIST,), {"mirrors": [url], "resources": resources})


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the folder by HTTP on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_data_dir_has_precedence_over_the_environment_and_the_working_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_mnist(data)
    make_mnist(tmp_path / "argument")
    make_mnist(tmp_path / "work" / "data")
    assert Path(MNISTDataModule(data_dir=str(tmp_path / "argument")).root()) == tmp_path / "argument"
    assert Path(MNISTDataModule().root()) == data
    monkeypatch.delenv("LITLAB_DATA_DIR")
    assert Path(MNISTDataModule().root()) == Path("data")


def test_the_debian_package_is_unpacked_into_the_data_folder(data: Path, tmp_path: Path) -> None:
    package = make_gzipped_idx(tmp_path / "package")
    assert find_dataset(FASHION, download=False, package_dirs=[package]) == data
    expected = make_fashion_mnist(tmp_path / "reference")
    raw = data / "FashionMNIST" / "raw"
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == {
        path.name: path.read_bytes() for path in expected.iterdir()
    }
    module = FashionMNISTDataModule(download=False)
    module.setup("fit")
    assert module.split_sizes() == {"train": 160, "val": 40}


def test_the_package_is_unpacked_into_the_cache_if_the_data_folder_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file instead of a folder")
    package = make_gzipped_idx(tmp_path / "package")
    find = partial(find_dataset, FASHION, str(tmp_path / "file" / "data"), False)
    assert find([package]) == tmp_path / "cache" / "litlab"
    assert find([]) == tmp_path / "cache" / "litlab"  # and found there the next time


def test_gzipped_files_in_the_raw_folder_are_unpacked(data: Path) -> None:
    make_gzipped_idx(data / "MNIST" / "raw")
    module = MNISTDataModule(download=False)
    module.prepare_data()
    module.setup("test")
    assert module.split_sizes() == {"test": 50}


def test_a_full_disk_is_reported_and_leaves_no_partial_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_gzipped_idx(tmp_path / "package")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(MisconfigurationException) as caught:
        find_dataset(FASHION, download=False, package_dirs=[package])
    for root in (data, tmp_path / "cache" / "litlab"):
        words = f"{package} cannot be unpacked into {root}/FashionMNIST/raw (No space left on device)"
        assert words in str(caught.value)
        assert not [path for path in root.rglob("*") if path.is_file()]


def test_the_cache_folder_follows_its_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_root() == tmp_path / "cache" / "litlab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "litlab"
    monkeypatch.setenv("LITLAB_CACHE_DIR", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"


@pytest.mark.parametrize("keep", [0, 300])
def test_a_corrupted_package_leaves_no_partial_file(data: Path, tmp_path: Path, keep: int) -> None:
    package = make_gzipped_idx(tmp_path / "package")
    bad = package / "train-images-idx3-ubyte.gz"
    bad.write_bytes(bad.read_bytes()[:keep] + (b"" if keep else b"no gzip"))
    with pytest.raises(MisconfigurationException, match=r"train-images-idx3-ubyte.gz is corrupted"):
        find_dataset(FASHION, download=False, package_dirs=[package])
    assert not list((data / "FashionMNIST" / "raw").iterdir())


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (MNISTDataModule, ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "https://"]),
        (FashionMNISTDataModule, ["train-images-idx3-ubyte", "`apt install dataset-fashion-mnist`"]),
        (TinyCIFAR10DataModule, ["data_batch_1", "test_batch", "batches.meta"]),
    ],
)
def test_missing_data_is_reported_with_files_folders_and_fix(data: Path, kind: Any, words: list[str]) -> None:
    with pytest.raises(MisconfigurationException) as caught:
        kind(download=False).prepare_data()
    message = str(caught.value)
    for word in [*words, str(data), "LITLAB_DATA_DIR", "--data.data_dir", "download is false"]:
        assert word in message
    assert "\n" not in message
    assert not data.exists()


def test_without_a_network_one_sentence_is_printed(
    data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        monkeypatch.setattr(MNISTDataModule, "dataset_class", mnist_at(f"http://127.0.0.1:{unused.getsockname()[1]}/"))
        with pytest.raises(MisconfigurationException, match=r"MNIST is not complete: train-images.* refused") as caught:
            MNISTDataModule().prepare_data()
    assert "\n" not in str(caught.value)
    assert not data.exists()
    out, err = capfd.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if "Downloading MNIST" not in line] == []


def test_a_silent_server_times_out_and_the_default_timeout_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.files.find_dataset.DOWNLOAD_TIMEOUT_S", 0.2)
    # a server that accepts connections and never answers
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(MisconfigurationException, match="timed out"):
        find_dataset(mnist_at(f"http://127.0.0.1:{silent.getsockname()[1]}/"))
    assert socket.getdefaulttimeout() is None


def test_a_download_is_complete_and_is_not_repeated(data: Path, tmp_path: Path) -> None:
    site = make_gzipped_idx(tmp_path / "site")
    sums = {path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in site.iterdir()}
    with served(site) as url:
        assert find_dataset(mnist_at(url, sums)) == data
    assert find_dataset(mnist_at("http://127.0.0.1:1/")) == data
    assert sorted(path.name for path in data.iterdir()) == ["MNIST"]
    assert len(list((data / "MNIST" / "raw").iterdir())) == 4


def test_a_download_with_a_wrong_checksum_leaves_no_files(data: Path, tmp_path: Path) -> None:
    with (
        served(make_gzipped_idx(tmp_path / "site")) as url,
        pytest.raises(MisconfigurationException, match="corrupted"),
    ):
        find_dataset(mnist_at(url))
    assert not data.exists()


def test_a_data_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        MisconfigurationException, match=r"file/data/MNIST/raw.*no download: .*(Not a directory|exists)"
    ):
        find_dataset(mnist_at("http://127.0.0.1:1/"), str(tmp_path / "file" / "data"))

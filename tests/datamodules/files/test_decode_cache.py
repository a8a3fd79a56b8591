"""The cache of decoded images: built once, checked before it is mapped, written atomically."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import ImageFolderDataModule
from datamodules.files import decode_cache
from tests.data.makers import make_image_folder

ROOT = Path(__file__).parents[3]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of files decoded by each call of `decode_files`."""
    numbers: list[int] = []
    original = decode_cache.decode_files

    def count(root: Path, names: list[str], *rest: Any) -> Any:
        numbers.append(len(names))
        return original(root, names, *rest)

    monkeypatch.setattr(decode_cache, "decode_files", count)
    return numbers


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder named by LITLAB_CACHE_DIR."""
    monkeypatch.setenv("LITLAB_CACHE_DIR", str(tmp_path / "own"))
    return tmp_path / "own"


def load(**options: Any) -> ImageFolderDataModule:
    module = ImageFolderDataModule(**options)
    module.setup("fit")
    return module


def cached_files(cache: Path) -> list[Path]:
    """Return all files in the cache, including hidden and partial ones."""
    return sorted(path for path in cache.rglob("*") if path.is_file())


def images_file(cache: Path) -> Path:
    (path,) = cache.rglob("images.bin")
    return path


def test_later_runs_map_the_cache_of_the_first_run(data: Path, cache: Path, decoded: list[int]) -> None:
    make_image_folder(data)
    first, second = load(), load()
    assert decoded == [200]
    assert second.mapped
    assert torch.equal(first.load_part("train")[0], second.load_part("train")[0])
    assert (first.mean, first.std) == (second.mean, second.std)
    assert [path.name for path in cached_files(cache)] == ["facts.json", "images.bin"]
    assert images_file(cache).stat().st_size == 200 * 3 * 32 * 32


def test_writing_to_the_tensor_does_not_change_the_file(data: Path, cache: Path) -> None:
    make_image_folder(data)
    load().load_part("train")[0].zero_()
    assert load().load_part("train")[0].any()


def change(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("how", [change, Path.unlink, lambda path: path.rename(path.with_name("new.jpg"))])
def test_a_changed_folder_is_decoded_again_and_the_old_cache_removed(
    data: Path, cache: Path, decoded: list[int], how: Callable[[Path], Any]
) -> None:
    make_image_folder(data, test=0)
    load()
    load(image_size=8)
    how(data / "train" / "cat" / "0003.jpg")
    left = len(list(data.rglob("*.jpg")))
    load()
    assert decoded == [200, 200, left]
    assert sorted(path.parent.name.split("-")[1] for path in cache.rglob("images.bin")) == ["32x32x3", "8x8x3"]


def test_sizes_and_channels_have_separate_caches(data: Path, cache: Path, decoded: list[int]) -> None:
    make_image_folder(data)
    for options in ({}, {"image_size": 8}, {"channels": 1}, {}, {"image_size": 8}, {"image_size": 32}):
        load(**options)
    assert len(decoded) == 3


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["images.bin", "facts.json"])
@pytest.mark.parametrize("how", [cut, zero, flip, Path.unlink])
def test_a_corrupted_cache_is_detected_and_rebuilt(
    data: Path,
    cache: Path,
    decoded: list[int],
    caplog: pytest.LogCaptureFixture,
    file: str,
    how: Callable[[Path], None],
) -> None:
    make_image_folder(data)
    before = load().hashes()
    how(images_file(cache).with_name(file))
    with caplog.at_level("INFO"):
        assert load().hashes() == before
    assert decoded == [200, 200]
    assert caplog.text.count("is corrupted (") == 1
    caplog.clear()
    with caplog.at_level("INFO"):
        load()
    assert decoded == [200, 200]
    assert not caplog.text


def test_images_are_decoded_into_memory_if_the_cache_folder_cannot_be_created(
    data: Path, cache: Path, decoded: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    make_image_folder(data)
    mapped = load().hashes()
    cache.rename(cache.with_name("elsewhere"))
    cache.write_text("a file instead of a folder")
    with caplog.at_level("INFO"):
        module = load()
    assert not module.mapped
    assert module.hashes() == mapped
    assert caplog.text.count("decodes the images into memory") == 1
    assert "LITLAB_CACHE_DIR" in caplog.text


def test_too_little_memory_is_reported_with_the_fix(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_image_folder(data)
    cache.write_text("a file instead of a folder")
    monkeypatch.setattr(decode_cache, "free_memory", lambda _: 1000)
    with pytest.raises(
        MisconfigurationException, match=r"need 1 MB, but only 0 MB of memory are free.*LITLAB_CACHE_DIR"
    ):
        load()


def test_too_small_a_disk_is_detected_before_writing(
    data: Path, cache: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_image_folder(data)
    monkeypatch.setattr(decode_cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100_000}))
    with pytest.raises(MisconfigurationException) as caught:
        load()
    for word in (str(cache), "No space left on device", "1 MB are needed, 0 MB are free", "LITLAB_CACHE_DIR"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not cached_files(cache)
    assert not decoded


CHILD = """
import sys
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from datamodules import ImageFolderDataModule
try:
    ImageFolderDataModule().setup("fit")
except MisconfigurationException as error:
    print(error)
    sys.exit(2)
"""


def test_a_failed_write_leaves_no_files(data: Path, cache: Path) -> None:
    """A limit on the file size fails in the middle of the file, like a full disk or a quota."""
    make_image_folder(data)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    done = subprocess.run([sys.executable, "-c", CHILD], preexec_fn=limit, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    (sentence,) = done.stdout.splitlines()
    for word in (str(cache), "File too large", "LITLAB_CACHE_DIR"):
        assert word in sentence
    assert not cached_files(cache)


def test_interrupted_decoding_leaves_no_files(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_image_folder(data)
    original = decode_cache.decode_files

    def interrupted(root: Path, names: list[str], spec: Any, sink: Any, *rest: Any) -> Any:
        def sink_once(images: torch.Tensor) -> None:
            sink(images)
            raise KeyboardInterrupt

        return original(root, names, spec, sink_once, *rest)

    monkeypatch.setattr(decode_cache, "decode_files", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load()
    assert not cached_files(cache)
    monkeypatch.undo()


def test_files_of_a_killed_run_are_removed_after_an_hour(data: Path, cache: Path) -> None:
    make_image_folder(data)
    load()
    folder = images_file(cache).parents[1]
    for age, name in ((7200, ".train-a"), (60, ".train-b")):
        (folder / name).mkdir()
        (folder / name / "images.bin").write_bytes(b"half")
        for path in (folder / name / "images.bin", folder / name):
            os.utime(path, (time.time() - age, time.time() - age))
    load(image_size=8)
    assert [path.name for path in folder.glob(".*")] == [".train-b"]


def _load_and_hash(start: Any, answers: Any) -> None:
    torch.set_num_threads(1)  # the threads of OpenMP do not survive a fork
    start.wait()
    answers.put(load().hashes()["train_data"])


def test_concurrent_processes_share_one_cache(data: Path, cache: Path) -> None:
    make_image_folder(data)
    context = multiprocessing.get_context("fork")
    start, answers = context.Event(), context.Queue()
    processes = [context.Process(target=_load_and_hash, args=(start, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    hashes = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert hashes == {load().hashes()["train_data"]}
    assert [path.name for path in cached_files(cache)] == ["facts.json", "images.bin"]
    assert json.loads(images_file(cache).with_name("facts.json").read_text())["shape"] == [200, 3, 32, 32]

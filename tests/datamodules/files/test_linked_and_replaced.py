"""Image folders with links, skipped files and files that were replaced between two runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image

from datamodules import ImageFolderDataModule
from datamodules.files.image_listing import class_folders, list_images
from datamodules.serving.splits import hash_tensors


def save(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5), value, np.uint8)).save(path)


def values(root: Path) -> list[tuple[int, int]]:
    """Return (label, gray value) of all training images, each of one value, in the order of their sample numbers."""
    images, labels = ImageFolderDataModule(data_dir=str(root), channels=1).load_part("train")
    return list(zip(labels.tolist(), images[:, 0, 0, 0].tolist(), strict=True))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the classes a (1, 2) and b (10, 20)."""
    root = tmp_path / "pictures"
    for name, numbers in (("a", (1, 2)), ("b", (10, 20))):
        for number in numbers:
            save(root / "train" / name / f"{number}.png", number)
    return root


def test_linked_folders_are_read_and_loops_are_not(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "elsewhere" / "3.png", 3)
    save(tmp_path / "elsewhere" / "below" / "4.png", 4)
    links = root / "train" / "a"
    (links / "more").symlink_to(tmp_path / "elsewhere")
    (links / "again").symlink_to(tmp_path / "elsewhere" / "below")  # read first, as `again`
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "elsewhere")
    for name, target in (("itself", links), ("train", root / "train"), ("top", "/"), ("loop", links / "loop")):
        (links / name).symlink_to(target)
    with caplog.at_level("INFO"):
        assert sorted(values(root)) == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 10), (1, 20)]
    assert "skipping 1 broken link, 5 linked folders that were already read." in caplog.text


def test_a_linked_class_folder_is_read(root: Path, tmp_path: Path) -> None:
    (root / "train" / "b").rename(tmp_path / "b")
    (root / "train" / "b").symlink_to(tmp_path / "b")
    assert values(root) == [(0, 1), (0, 2), (1, 10), (1, 20)]


def test_all_skipped_files_are_counted_in_one_line_of_every_run(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("readme.txt", "a/labels.TXT", "a/.hidden.png", "b/.git/3.png", "b/3.svg", ".DS_Store"):
        path = root / "train" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    for _ in range(2):  # decoded, then from the cache
        caplog.clear()
        with caplog.at_level("INFO"):
            assert len(values(root)) == 4
        (line,) = [message for message in caplog.messages if "skipping" in message]
        assert line == f"Found 4 images in {root / 'train'}; skipping 1 .svg, 2 .txt, 3 hidden."


def overwrite(path: Path) -> None:
    save(path, 200)


def replace(path: Path) -> None:
    other = path.with_name("other.bmp")
    save(other, 200)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("how", [overwrite, replace])
def test_a_replaced_file_of_equal_name_size_and_time_is_noticed(tmp_path: Path, how: Callable[[Path], None]) -> None:
    root = tmp_path / "pictures"
    for name in ("a", "b"):
        save(root / "train" / name / "0.bmp", 7)
    path = root / "train" / "b" / "0.bmp"
    before = path.stat()
    assert values(root) == [(0, 7), (1, 7)]
    how(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert values(root) == [(0, 7), (1, 200)]
    module = ImageFolderDataModule(data_dir=str(root), channels=1, val_split=0)
    module.setup("fit")
    pixels = torch.stack([torch.full((1, 4, 5), value, dtype=torch.uint8) for value in (7, 200)])
    assert module.hashes()["train_data"] == hash_tensors(pixels, torch.tensor([0, 1]))


def test_a_class_that_links_to_a_folder_around_it_is_rejected(root: Path) -> None:
    (root / "train" / "zoo").symlink_to(root / "train")
    with pytest.raises(MisconfigurationException, match="which contains it"):
        list_images(root, ["train"], class_folders(root / "train"))


def test_a_pipe_with_the_name_of_an_image_is_skipped(root: Path) -> None:
    names = class_folders(root / "train")
    number = len(list_images(root, ["train"], names))
    os.mkfifo(root / "train" / names[0] / "pipe.png")
    (root / "train" / names[0] / "gone.txt").symlink_to("nowhere")
    listing = list_images(root, ["train"], names)
    assert len(listing) == number
    assert listing.skipped["not a file"] == 1
    assert listing.skipped["broken link"] == 1


def test_bfloat16_tensors_have_a_hash() -> None:
    content = np.arange(6, dtype=np.int16)  # the bits of six bfloat16 numbers
    values = torch.from_numpy(content).view(torch.bfloat16).reshape(2, 3)
    assert hash_tensors(values) == hashlib.sha256(b"torch.bfloat16(2, 3)" + content.tobytes()).hexdigest()

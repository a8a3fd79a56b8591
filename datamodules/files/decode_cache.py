"""Decoded images of a folder, kept in a file that later runs map instead of decoding again."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.files.decode_pass import ImageForm, decode_files
from datamodules.files.image_listing import Listing
from datamodules.files.places import cache_root, exclusive
from datamodules.serving.placement import free_memory

FORMAT = 1  # of the files below; a cache of another format is not looked at
_IMAGES, _FACTS = "images.bin", "facts.json"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_STALE_S = 3600.0


@dataclass(frozen=True)
class DecodedImages:
    """All images of a listing, in its order."""

    images: Tensor  # uint8 (N, C, H, W), mapped from the cache file or in memory
    counts: Tensor  # int64 (C, 256): how often each pixel value occurs in the training images
    digest: str  # SHA-256 of images and labels, as `splits.hash_tensors` makes it
    mapped: bool


def decoded_images(listing: Listing, form: ImageForm, part: str, threads: int | None = None) -> DecodedImages:
    """Map the decoded images; decode the files where that was not done yet, or differently, or the cache is damaged.

    Several processes may ask at once: one decodes, the others wait and map. Where the cache folder cannot be
    written, the images are decoded into memory.
    """
    place = cache_place(listing, form, part)
    shape = len(listing), *form.shape
    with contextlib.suppress(_DamagedError):
        if found := _map(place, shape):
            return found
    source = listing.root / part
    with exclusive(place, f"Another process decodes the images of {source}: waiting for it."):
        try:
            if found := _map(place, shape):
                return found
        except _DamagedError as damage:
            rank_zero_info(f"The cache {place} is damaged ({damage}): the images are decoded again.")
            shutil.rmtree(place, ignore_errors=True)
        others = ", ".join(f"{number} {ending}" for ending, number in sorted(listing.others.items()))
        rank_zero_info(
            f"Decoding {shape[0]:,} images of {source}, once{f'; left out are {others}' if others else ''} ..."
        )
        return _build(place, listing, form, threads)


def cache_place(listing: Listing, form: ImageForm, part: str) -> Path:
    """The folder of the cache: one for each place, part, size and content of an image folder."""
    root = listing.root.resolve()
    where = hashlib.sha256(str(root).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    size = f"{form.height}x{form.width}x{form.channels}"
    return cache_root() / "folders" / f"{root.name}-{where}" / f"{part}-{size}-{listing.key[:16]}"


class _DamagedError(Exception):
    """What is wrong with a cache."""


def _map(place: Path, shape: tuple[int, ...]) -> DecodedImages | None:
    """The cache, checked and mapped; None if there is none."""
    try:
        facts: dict[str, Any] = json.loads((place / _FACTS).read_text(encoding="utf-8"))
        size = (place / _IMAGES).stat().st_size
        if facts.pop("check") != _check(facts):
            raise _DamagedError(f"{_FACTS} does not have its checksum")
        if facts["format"] != FORMAT or tuple(facts["shape"]) != shape:
            raise _DamagedError(f"{_FACTS} describes other images")
        if size != math.prod(shape):
            raise _DamagedError(f"{_IMAGES} has {size:,} bytes, expected {math.prod(shape):,}")
        if _samples_checksum(place / _IMAGES) != facts["samples"]:
            raise _DamagedError(f"{_IMAGES} does not have its checksum")
        # Not shared: what is written to the tensor by mistake stays in this process. Pages come as they are read.
        images = torch.from_file(str(place / _IMAGES), shared=False, size=size, dtype=torch.uint8)
    except FileNotFoundError as error:
        if place.exists():
            raise _DamagedError(f"{Path(error.filename).name} is missing") from error
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # no JSON, or not ours
        raise _DamagedError(f"{_FACTS} cannot be understood") from error
    except (OSError, RuntimeError) as error:
        raise _DamagedError(" ".join(str(error).split())) from error
    return DecodedImages(images.view(shape), torch.tensor(facts["counts"]), facts["digest"], True)


def _build(place: Path, listing: Listing, form: ImageForm, threads: int | None) -> DecodedImages:
    """Decode into a folder aside that takes its name when complete; into memory where nothing can be written."""
    shape = len(listing), *form.shape
    needed = math.prod(shape) + (1 << 16)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(place.parent)
        aside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _cannot_write(place, error, needed) from error
        rank_zero_info(
            f"{place.parent} cannot be written ({error.strerror}): the images are decoded into memory, in every run "
            "anew. Name another folder by LITLAB_CACHE_DIR."
        )
        return _build_in_memory(listing, form, threads)
    began = time.monotonic()
    try:
        if shutil.disk_usage(aside).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with open(aside / _IMAGES, "wb", buffering=0) as file:
            digest = _Digest(shape)
            counts = _decode(listing, form, threads, lambda images: _write(file.write, digest.update(images)))
            os.fsync(file.fileno())
        facts: dict[str, Any] = {
            "format": FORMAT,
            "shape": list(shape),
            "counts": counts.tolist(),
            "digest": digest.finish(listing.labels),
            "samples": _samples_checksum(aside / _IMAGES),
        }
        with open(aside / _FACTS, "wb", buffering=0) as file:
            _write(file.write, json.dumps({**facts, "check": _check(facts)}).encode())
            os.fsync(file.fileno())
        aside.chmod(0o755)  # mkdtemp makes it private
        with contextlib.suppress(FileExistsError):  # someone on another machine was faster: the same images
            _rename(aside, place)
    except OSError as error:
        raise _cannot_write(place, error, needed) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    seconds = time.monotonic() - began
    rank_zero_info(
        f"Decoded {shape[0]:,} images in {seconds:.1f} s ({shape[0] / seconds:,.0f} a second) "
        f"into {place} ({needed / 1e6:,.0f} MB)."
    )
    _remove_outdated(place)
    try:
        found = _map(place, shape)
    except _DamagedError as damage:
        raise MisconfigurationException(
            f"data: the cache {place} is damaged ({damage}) and cannot be replaced. Delete it."
        ) from damage
    if found is None:
        raise MisconfigurationException(f"data: the cache {place} went away while it was made. Run again.")
    return found


def _build_in_memory(listing: Listing, form: ImageForm, threads: int | None) -> DecodedImages:
    shape = len(listing), *form.shape
    needed, free = math.prod(shape), free_memory(torch.device("cpu"))
    if needed > free:
        raise MisconfigurationException(
            f"data: the decoded images of {listing.root} need {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB of "
            "memory are free. Name a folder that can be written by LITLAB_CACHE_DIR, or take a smaller image_size."
        )
    images, digest, done = torch.empty(shape, dtype=torch.uint8), _Digest(shape), 0

    def keep(chunk: Tensor) -> None:
        nonlocal done
        images[done : done + len(chunk)] = chunk
        digest.update(chunk)
        done += len(chunk)

    counts = _decode(listing, form, threads, keep)
    return DecodedImages(images, counts, digest.finish(listing.labels), False)


def _decode(listing: Listing, form: ImageForm, threads: int | None, sink: Callable[[Tensor], None]) -> Tensor:
    return decode_files(listing.root, listing.names, form, sink, len(listing) - listing.validation, threads)


class _Digest:
    """`splits.hash_tensors(images, labels)` of images that come bit by bit."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._sha = hashlib.sha256(f"{torch.uint8}{shape}".encode())

    def update(self, images: Tensor) -> memoryview:
        """Take these images; returns their bytes."""
        content: memoryview = images.numpy().data.cast("B")
        self._sha.update(content)
        return content

    def finish(self, labels: Tensor) -> str:
        self._sha.update(f"{labels.dtype}{tuple(labels.shape)}".encode())
        self._sha.update(labels.numpy().data)
        return self._sha.hexdigest()


def _write(write: Callable[[memoryview | bytes], int], content: memoryview | bytes) -> None:
    """All of it: a nearly full disk takes a part without a word, and refuses the next."""
    while content:
        content = content[write(content) :]


def _rename(aside: Path, place: Path) -> None:
    try:
        aside.rename(place)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError from error
        raise


def _samples_checksum(path: Path) -> int:
    """CRC of 64 pieces of 4 KiB, evenly spread with both ends: finds a cut or hollow file of any size at once."""
    size, crc = path.stat().st_size, 0
    with open(path, "rb", buffering=0) as file:
        for i in range(64):
            file.seek(max(0, size - 4096) * i // 63)
            crc = zlib.crc32(file.read(4096), crc)
    return crc


def _check(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _cannot_write(place: Path, error: OSError, needed: int) -> MisconfigurationException:
    free = ""
    with contextlib.suppress(OSError):
        free = f", {shutil.disk_usage(place.parent).free / 1e6:,.0f} MB are free"
    return MisconfigurationException(
        f"data: the decoded images cannot be written into {place.parent} ({error.strerror or error}): "
        f"{needed / 1e6:,.0f} MB are needed{free}. Make room, or name another folder by LITLAB_CACHE_DIR."
    )


def _remove_outdated(place: Path) -> None:
    """Caches of the same folder, part and size that were made of other files."""
    kind = place.name.rpartition("-")[0]
    for other in _folders(place.parent, f"{kind}-"):
        if other.name != place.name:
            shutil.rmtree(other, ignore_errors=True)


def _remove_stale(folder: Path) -> None:
    """What killed processes left behind: half-written, and not written to for an hour."""
    for aside in _folders(folder, "."):
        with contextlib.suppress(OSError):
            if time.time() - max(path.stat().st_mtime for path in (aside, *aside.iterdir())) > _STALE_S:
                shutil.rmtree(aside, ignore_errors=True)


def _folders(folder: Path, prefix: str) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.name.startswith(prefix))

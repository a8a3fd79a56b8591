"""Cache of decoded images: a file that later runs memory-map instead of decoding the images again."""

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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.files.image_listing import Listing
from datamodules.files.parallel_decoding import ImageSpec, decode_files
from datamodules.files.paths import cache_root, exclusive_lock
from datamodules.serving.splits import hash_header
from datamodules.serving.storage import free_memory

FORMAT = 1  # of the files below; a cache in another format is not used
_IMAGES, _METADATA = "images.bin", "facts.json"  # names that belong to FORMAT 1
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_STALE_S = 3600.0


@dataclass(frozen=True)
class DecodedImages:
    """All images of a listing, in its order."""

    images: Tensor  # uint8 (N, C, H, W), memory-mapped if `mapped`
    counts: Tensor  # int64 (C, 256): number of pixels of each value in the training images
    digest: str  # SHA-256 of images and labels, equal to `splits.hash_tensors`
    mapped: bool


def decoded_images(listing: Listing, spec: ImageSpec, split: str) -> DecodedImages:
    """Return the memory-mapped cache; first decode the images into it if it is missing or corrupted.

    If several processes call this function, one of them decodes and the others wait. If the cache folder cannot be
    written, decode into memory.
    """
    path = cache_path(listing, spec, split)
    shape = len(listing), *spec.shape
    with contextlib.suppress(_CorruptedError):
        if found := _map(path, shape):
            return found
    source = listing.root / split
    with exclusive_lock(path, f"Waiting for another process that decodes the images of {source}."):
        try:
            if found := _map(path, shape):
                return found
        except _CorruptedError as error:
            rank_zero_info(f"The cache {path} is corrupted ({error}); decoding the images again.")
            shutil.rmtree(path, ignore_errors=True)
        rank_zero_info(f"Decoding {shape[0]:,} images of {source}, once ...")
        return _build(path, listing, spec)


def cache_path(listing: Listing, spec: ImageSpec, split: str) -> Path:
    """Return the cache folder for this path, split, image shape and content of an image folder."""
    root = listing.root.resolve()
    path_hash = hashlib.sha256(str(root).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    size = f"{spec.height}x{spec.width}x{spec.channels}"
    return cache_root() / "folders" / f"{root.name}-{path_hash}" / f"{split}-{size}-{listing.key[:16]}"


class _CorruptedError(Exception):
    """Error with the reason why a cache cannot be used."""


def _map(path: Path, shape: tuple[int, ...]) -> DecodedImages | None:
    """Return the cached images, checked and memory-mapped, or None without a cache."""
    try:
        metadata: dict[str, Any] = json.loads((path / _METADATA).read_text(encoding="utf-8"))
        size = (path / _IMAGES).stat().st_size
        if metadata.pop("check") != _checksum(metadata):
            raise _CorruptedError(f"{_METADATA} does not match its checksum")
        if metadata["format"] != FORMAT or tuple(metadata["shape"]) != shape:
            raise _CorruptedError(f"{_METADATA} describes other images")
        if size != math.prod(shape):
            raise _CorruptedError(f"{_IMAGES} has {size:,} bytes, expected {math.prod(shape):,}")
        if _sampled_checksum(path / _IMAGES) != metadata["samples"]:
            raise _CorruptedError(f"{_IMAGES} does not match its checksum")
        # With shared=False, writing to the tensor does not change the file. Reading a page loads it.
        images = torch.from_file(str(path / _IMAGES), shared=False, size=size, dtype=torch.uint8)
    except FileNotFoundError as error:
        if path.exists():
            raise _CorruptedError(f"{Path(error.filename).name} is missing") from error
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # not JSON, or not written by litlab
        raise _CorruptedError(f"{_METADATA} cannot be parsed") from error
    except (OSError, RuntimeError) as error:
        raise _CorruptedError(" ".join(str(error).split())) from error
    return DecodedImages(images.view(shape), torch.tensor(metadata["counts"]), metadata["digest"], True)


def _build(path: Path, listing: Listing, spec: ImageSpec) -> DecodedImages:
    """Decode into a temporary folder and rename it; decode into memory if the folder cannot be created."""
    shape = len(listing), *spec.shape
    needed = math.prod(shape) + (1 << 16)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise _write_error(path, error, needed) from error
        rank_zero_info(
            f"{path.parent} cannot be written ({error.strerror}), so every run decodes the images into memory. "
            "Set LITLAB_CACHE_DIR to another folder."
        )
        return _build_in_memory(listing, spec)
    started = time.monotonic()
    try:
        if shutil.disk_usage(temporary).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        _write_cache(temporary, listing, spec)
        try:
            temporary.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another machine has created the same cache
                raise
    except OSError as error:
        raise _write_error(path, error, needed) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    seconds = time.monotonic() - started
    rank_zero_info(
        f"Decoded {shape[0]:,} images in {seconds:.1f} s ({shape[0] / seconds:,.0f} images/s) "
        f"into {path} ({needed / 1e6:,.0f} MB)."
    )
    _remove_outdated(path)
    try:
        if found := _map(path, shape):
            return found
        raise _CorruptedError("it was deleted")
    except _CorruptedError as error:
        message = f"data: the cache {path} cannot be used after writing it ({error}). Delete it and run again."
        raise MisconfigurationException(message) from error


def _write_cache(folder: Path, listing: Listing, spec: ImageSpec) -> None:
    with open(folder / _IMAGES, "wb") as file:
        counts, digest = _decode(listing, spec, lambda images: file.write(images.numpy().data))
        file.flush()
        os.fsync(file.fileno())
    metadata: dict[str, Any] = {
        "format": FORMAT,
        "shape": [len(listing), *spec.shape],
        "counts": counts.tolist(),
        "digest": digest,
        "samples": _sampled_checksum(folder / _IMAGES),
    }
    (folder / _METADATA).write_text(json.dumps({**metadata, "check": _checksum(metadata)}), encoding="utf-8")
    folder.chmod(0o755)  # mkdtemp sets 0o700


def _build_in_memory(listing: Listing, spec: ImageSpec) -> DecodedImages:
    shape = len(listing), *spec.shape
    needed, free = math.prod(shape), free_memory(torch.device("cpu"))
    if needed > free:
        raise MisconfigurationException(
            f"data: the decoded images of {listing.root} need {needed / 1e6:,.0f} MB, but only {free / 1e6:,.0f} MB of "
            "memory are free. Set LITLAB_CACHE_DIR to a writable folder, or set a smaller --data.image_size."
        )
    images, done = torch.empty(shape, dtype=torch.uint8), 0

    def store(chunk: Tensor) -> None:
        nonlocal done
        images[done : done + len(chunk)] = chunk
        done += len(chunk)

    counts, digest = _decode(listing, spec, store)
    return DecodedImages(images, counts, digest, False)


def _decode(listing: Listing, spec: ImageSpec, sink: Callable[[Tensor], Any]) -> tuple[Tensor, str]:
    """Pass all images to `sink`; return the pixel counts and the hash of images and labels."""
    digest = hashlib.sha256(hash_header(torch.uint8, (len(listing), *spec.shape)))

    def hash_and_pass(images: Tensor) -> None:
        digest.update(images.numpy().data)
        sink(images)

    counts = decode_files(listing.root, listing.names, spec, hash_and_pass, len(listing) - listing.validation)
    digest.update(hash_header(listing.labels.dtype, listing.labels.shape))
    digest.update(listing.labels.numpy().data)
    return counts, digest.hexdigest()


def _sampled_checksum(path: Path) -> int:
    """Return the CRC of 64 evenly spaced blocks of 4 KiB, which quickly detects a truncated or zeroed file."""
    size, crc = path.stat().st_size, 0
    with open(path, "rb", buffering=0) as file:
        for i in range(64):
            file.seek(max(0, size - 4096) * i // 63)
            crc = zlib.crc32(file.read(4096), crc)
    return crc


def _checksum(metadata: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def _write_error(path: Path, error: OSError, needed: int) -> MisconfigurationException:
    free = ""
    with contextlib.suppress(OSError):
        free = f", {shutil.disk_usage(path.parent).free / 1e6:,.0f} MB are free"
    return MisconfigurationException(
        f"data: the decoded images cannot be written to {path.parent} ({error.strerror or error}): "
        f"{needed / 1e6:,.0f} MB are needed{free}. Free disk space, or set LITLAB_CACHE_DIR to another folder."
    )


def _remove_outdated(path: Path) -> None:
    """Remove the caches of the same folder, split and shape for previous contents."""
    for other in path.parent.glob(f"{path.name.rpartition('-')[0]}-*"):
        if other != path:
            shutil.rmtree(other, ignore_errors=True)


def _remove_stale(folder: Path) -> None:
    """Remove temporary folders of killed processes, which are unchanged for an hour."""
    for temporary in folder.glob(".*"):
        with contextlib.suppress(OSError):
            if time.time() - max(path.stat().st_mtime for path in (temporary, *temporary.iterdir())) > _STALE_S:
                shutil.rmtree(temporary, ignore_errors=True)

"""Parallel decoding of image files."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.files.image_files import read_with_range, why_unreadable
from datamodules.serving.workers import usable_cores

_CHUNK_FILES, _CHUNK_BYTES = 64, 4 << 20  # limits of one chunk
_LOG_EVERY_S = 10.0


@dataclass(frozen=True)
class ImageSpec:
    """Shape of all images; images of another size are resized if `resized`, else rejected."""

    channels: int
    height: int
    width: int
    resized: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image."""
        return self.channels, self.height, self.width


@dataclass
class _Chunk:
    images: Tensor
    counts: Tensor
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # name, reason
    wrong_size: list[tuple[str, tuple[int, int]]] = field(default_factory=list)  # name, (height, width)
    guessed: dict[int, str] = field(default_factory=dict)  # bits that only the values showed -> name


def decode_files(
    root: Path,
    names: Sequence[str],
    spec: ImageSpec,
    sink: Callable[[Tensor], Any],
    counted: int,
) -> Tensor:
    """Pass all images to `sink` in order, in chunks uint8 `(n, C, H, W)`.

    Pillow's decoders release the GIL, so threads are enough. At most two chunks more than threads are in memory.
    Return int64 `(C, 256)`, the number of pixels of each value in the first `counted` images. After trying all files,
    raise an error that names the unreadable files, or the files of another size if images are not resized, or files
    whose integer pixels have different ranges.
    """
    threads = usable_cores()
    step = max(1, min(_CHUNK_FILES, _CHUNK_BYTES // (spec.channels * spec.height * spec.width)))
    counts = torch.zeros(spec.channels, 256, dtype=torch.int64)
    unreadable: list[tuple[str, str]] = []
    wrong_size: list[tuple[str, tuple[int, int]]] = []
    guessed: dict[int, str] = {}
    pending: deque[Future[_Chunk]] = deque()

    def take() -> None:
        nonlocal counts
        chunk = pending.popleft().result()
        unreadable.extend(chunk.unreadable)
        wrong_size.extend(chunk.wrong_size)
        guessed.update(chunk.guessed)
        if not unreadable and not wrong_size:
            sink(chunk.images)
            counts = counts + chunk.counts
        advance(len(chunk.images))

    with warnings.catch_warnings(), _progress(len(names)) as advance, ThreadPoolExecutor(threads) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # about metadata of readable images
        try:
            for start in range(0, len(names), step):
                chunk = names[start : start + step]
                pending.append(pool.submit(_decode_chunk, root, chunk, spec, counted - start))
                if len(pending) > threads + 2:
                    take()
            while pending:
                take()
        finally:
            for future in pending:
                future.cancel()
    if unreadable:
        raise MisconfigurationException(_unreadable_message(root, unreadable, len(names)))
    if wrong_size:
        name, (height, width) = wrong_size[0]
        raise MisconfigurationException(
            f"image_size is required for images of different sizes: {root / names[0]} has {spec.height} x {spec.width} "
            f"pixels (height x width), {root / name} has {height} x {width}; {len(wrong_size):,} of {len(names):,} "
            "differ. "
            f"Set a size, such as --data.image_size {min(spec.height, spec.width)}."
        )
    if len(guessed) > 1:
        raise MisconfigurationException(
            f"data: {root / guessed[8]} has integer pixels of 0 to 255, and {root / guessed[16]} of more, so their "
            "range is unknown. Convert these images to 8 bits."
        )
    return counts


def _decode_chunk(root: Path, names: Sequence[str], spec: ImageSpec, counted: int) -> _Chunk:
    # Use NumPy, because with torch each of these threads would start its own pool of OpenMP threads.
    images = np.empty((len(names), *spec.shape), np.uint8)
    chunk = _Chunk(torch.from_numpy(images), torch.zeros(spec.channels, 256, dtype=torch.int64))
    for index, name in enumerate(names):
        path = os.path.join(root, name)
        try:
            image, bits = read_with_range(path, spec.channels, (spec.height, spec.width) if spec.resized else None)
        except Exception as error:  # decoders may raise any exception, from SyntaxError to struct.error
            chunk.unreadable.append((name, why_unreadable(path, error)))
            continue
        if image.shape != spec.shape:
            chunk.wrong_size.append((name, (image.shape[1], image.shape[2])))
            continue
        images[index] = image
        if bits is not None and image.any():  # black is 0 in any number of bits
            chunk.guessed[bits] = name
    for channel in range(spec.channels if counted > 0 else 0):
        values = np.bincount(images[:counted, channel].ravel(), minlength=256)
        chunk.counts[channel] = torch.from_numpy(values)
    return chunk


def _unreadable_message(root: Path, unreadable: list[tuple[str, str]], total: int) -> str:
    (name, reason), *more = unreadable
    also = f" (also {', '.join(other for other, _ in more[:3])}{', ...' if len(more) > 3 else ''})" if more else ""
    return (
        f"data: {root / name} is not a readable image ({reason}). Remove or replace it; "
        f"{len(unreadable):,} of {total:,} files{also}."
    )


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal, else log a line every 10 s, on rank 0 only."""
    if sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb" and not getattr(rank_zero_only, "rank", 0):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("decoding", total=total)
            yield lambda number: bar.advance(task, number)
        return
    done, logged = 0, time.monotonic()

    def advance(number: int) -> None:
        nonlocal done, logged
        done += number
        if time.monotonic() - logged >= _LOG_EVERY_S:
            logged = time.monotonic()
            rank_zero_info(f"decoding: {done:,} of {total:,}")

    yield advance

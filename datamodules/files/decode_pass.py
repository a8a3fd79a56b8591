"""Decode many image files in parallel, in order, a few at a time."""

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

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.files.image_files import read_image, why_unreadable

_CHUNK_FILES, _CHUNK_BYTES = 64, 4 << 20  # whichever is less
_LINE_EVERY_S = 10.0


@dataclass(frozen=True)
class ImageForm:
    """The form that all images take; `resized` says that others are brought to it, else they are refused."""

    channels: int
    height: int
    width: int
    resized: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        return self.channels, self.height, self.width


@dataclass
class _Chunk:
    images: Tensor
    counts: Tensor
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # name, reason
    odd: list[tuple[str, tuple[int, int]]] = field(default_factory=list)  # name, (height, width)


def decode_files(
    root: Path,
    names: Sequence[str],
    form: ImageForm,
    sink: Callable[[Tensor], None],
    counted: int,
    threads: int | None = None,
) -> Tensor:
    """Hand all images to `sink` in order, as uint8 (n, C, H, W) a few at a time.

    Pillow's decoders leave Python's lock, so threads serve; a chunk for each and two more are in memory at a time.
    Returns int64 (C, 256): how often each value occurs in the first `counted` images. Files that cannot be read,
    or that have another size where all must be alike, are refused by name when all were looked at.
    """
    threads = threads or usable_cores()
    step = max(1, min(_CHUNK_FILES, _CHUNK_BYTES // (form.channels * form.height * form.width)))
    counts = torch.zeros(form.channels, 256, dtype=torch.int64)
    unreadable: list[tuple[str, str]] = []
    odd: list[tuple[str, tuple[int, int]]] = []
    pending: deque[Future[_Chunk]] = deque()

    def take() -> None:
        nonlocal counts
        chunk = pending.popleft().result()
        unreadable.extend(chunk.unreadable)
        odd.extend(chunk.odd)
        if not unreadable and not odd:
            sink(chunk.images)
            counts = counts + chunk.counts
        advance(len(chunk.images))

    with _quiet_pillow(), _progress(len(names)) as advance, ThreadPoolExecutor(threads) as pool:
        try:
            for start in range(0, len(names), step):
                some = names[start : start + step]
                pending.append(pool.submit(_decode_chunk, root, some, form, counted - start))
                if len(pending) > threads + 2:
                    take()
            while pending:
                take()
        finally:
            for future in pending:
                future.cancel()
    if unreadable:
        raise MisconfigurationException(_unreadable_sentence(root, unreadable, len(names)))
    if odd:
        name, (height, width) = odd[0]
        raise MisconfigurationException(
            f"image_size: not given, but the images differ: {root / names[0]} has {form.height} x {form.width} pixels "
            f"(height x width), {root / name} has {height} x {width}, and so {len(odd):,} of {len(names):,}. "
            f"Give a size, for instance --data.image_size {min(form.height, form.width)}."
        )
    return counts


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _decode_chunk(root: Path, names: Sequence[str], form: ImageForm, counted: int) -> _Chunk:
    # NumPy, not torch: a pool of OpenMP threads for each of ours would stand in each other's way.
    images = np.empty((len(names), *form.shape), np.uint8)
    chunk = _Chunk(torch.from_numpy(images), torch.zeros(form.channels, 256, dtype=torch.int64))
    for index, name in enumerate(names):
        path = os.path.join(root, name)
        try:
            image = read_image(path, form.channels, (form.height, form.width) if form.resized else None)
        except Exception as error:  # decoders raise anything, from SyntaxError to struct.error
            chunk.unreadable.append((name, why_unreadable(path, error)))
            continue
        if image.shape != form.shape:
            chunk.odd.append((name, (image.shape[1], image.shape[2])))
            continue
        images[index] = image
    for channel in range(form.channels if counted > 0 else 0):
        values = np.bincount(images[:counted, channel].ravel(), minlength=256)
        chunk.counts[channel] = torch.from_numpy(values)
    return chunk


def _unreadable_sentence(root: Path, unreadable: list[tuple[str, str]], total: int) -> str:
    (name, reason), *more = unreadable
    also = f" (also {', '.join(other for other, _ in more[:3])}{', ...' if len(more) > 3 else ''})" if more else ""
    return (
        f"data: {root / name} is not a readable image ({reason}). Remove or replace it; "
        f"{len(unreadable):,} of {total:,} files{also}."
    )


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """What Pillow remarks on odd metadata is of no use here: a file is read, or it is named."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar where somebody looks at a terminal, else a line every ten seconds; only on the first process."""
    if sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb" and not getattr(rank_zero_only, "rank", 0):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("decoding", total=total)
            yield lambda number: bar.advance(task, number)
        return
    done, said = 0, time.monotonic()

    def advance(number: int) -> None:
        nonlocal done, said
        done += number
        if time.monotonic() - said >= _LINE_EVERY_S:
            said = time.monotonic()
            rank_zero_info(f"decoding: {done:,} of {total:,}")

    yield advance

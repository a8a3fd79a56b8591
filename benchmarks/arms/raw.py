"""A hand-written loop without litlab and Lightning: index, convert, normalize, step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.arms import data
from benchmarks.arms.work import Work


@dataclass(frozen=True)
class Machine:
    """Device, precision, memory layout and threads that litlab chose."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "32-true"
    channels_last: bool = False
    threads: int = 1
    fused: bool = False  # fused optimizer

    def text(self) -> str:
        """Return the text for the table."""
        threads = f", {self.threads} thread{'s' if self.threads > 1 else ''}" if self.device.type == "cpu" else ""
        layout = ", channels-last" if self.channels_last else ""
        return f"{self.precision}{layout}{', fused optimizer' if self.fused else ''}{threads}"

    def autocast(self) -> Any:
        """Return the autocast context of the forward pass."""
        dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(self.precision)
        if self.precision not in ("32-true", "bf16-mixed"):
            raise ValueError(f"precision must be 32-true or bf16-mixed in the raw arm, got {self.precision}.")
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)


TICK = {"wall": time.perf_counter, "processor": time.process_time}
CLOCK = ["wall"]  # or "processor": CPU time of this process, summed over its threads


def clock(device: torch.device | str = "cpu") -> float:
    """Return the seconds of the selected clock, after synchronizing a GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return TICK[CLOCK[0]]()


class Batches:
    """Normalized float32 batches of images in memory, in a new order in each epoch."""

    def __init__(self, pixels: data.Pixels, rows: Tensor, batch_size: int, machine: Machine, shuffle: bool = True):
        self.machine, self.rows, self.batch_size, self.shuffle = machine, rows.to(machine.device), batch_size, shuffle
        self.shape = tuple(pixels.images.shape[1:])
        images = pixels.images
        self.scale, self.shift = (values.to(machine.device) for values in pixels.scale_and_shift())
        if machine.channels_last:  # store channels last, so that a selected row already has the layout
            images = images.permute(0, 2, 3, 1)
        self.generator = torch.Generator().manual_seed(len(self.rows))
        self.images, self.labels = images.contiguous().to(machine.device), pixels.labels.to(machine.device)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def make(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch of these rows."""
        x = self.images.index_select(0, rows)
        if self.machine.channels_last:
            x = x.permute(0, 3, 1, 2)
        return x.to(torch.float32).mul_(self.scale).add_(self.shift), self.labels.index_select(0, rows)

    def order(self) -> Tensor:
        """Return the rows of an epoch in order, on the device."""
        if not self.shuffle:
            return self.rows
        return self.rows[torch.randperm(len(self.rows), generator=self.generator).to(self.rows.device)]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.order()
        for start in range(0, len(order), self.batch_size):
            yield self.make(order[start : start + self.batch_size])


class RawTraining:
    """A network with its optimizer and learning rate schedule for `epochs` epochs of `samples` training images."""

    def __init__(self, work: Work, samples: int, epochs: int, machine: Machine) -> None:
        self.work, self.machine = work, machine
        pixels = data.read(work.dataset, work.count)
        order = torch.randperm(len(pixels.images), generator=torch.Generator().manual_seed(work.seed))
        rows, held_out = order[work.held_out :][:samples], order[: work.held_out]
        self.batches = Batches(pixels, rows, work.batch_size, machine)
        self.held_out = Batches(pixels, held_out, work.batch_size, machine, shuffle=False)
        self.held_out.images, self.held_out.labels = self.batches.images, self.batches.labels  # share one copy
        self.net = work.net().to(machine.device)
        if machine.channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)
        self.optimizer = work.optimizer(self.net.parameters(), **({"fused": True} if machine.fused else {}))
        self.scheduler = work.schedule(self.optimizer, epochs * len(self.batches))
        self._left: Iterator[Any] = iter(())

    def step(self, x: Tensor, y: Tensor) -> None:
        """Run one optimizer step."""
        with self.machine.autocast():
            loss = cross_entropy(self.net(x), y)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.work.clip:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.work.clip)
        self.optimizer.step()
        self.scheduler.step()

    def begin(self) -> None:
        """Start an epoch."""
        self.net.train()
        self._left = self.items()

    def items(self) -> Iterator[Any]:
        """Return the arguments of `take` for one epoch."""
        return iter(self.batches)

    def take(self, item: Any) -> None:
        """Run one optimizer step on an item."""
        self.step(*item)

    def steps(self, number: int) -> float:
        """Run up to `number` further steps of the epoch and return the seconds."""
        start = clock(self.machine.device)
        for item in islice(self._left, number):
            self.take(item)
        return clock(self.machine.device) - start

    def epoch(self) -> float:
        """Train one epoch and return the seconds."""
        self.begin()
        return self.steps(len(self.batches))

    @torch.no_grad()
    def accuracy(self) -> float:
        """Return the accuracy on the held-out images."""
        self.net.eval()
        with self.machine.autocast():
            correct = sum(int((self.net(x).argmax(1) == y).sum()) for x, y in self.held_out)
        return correct / len(self.held_out.rows)


def loader(dataset: str, batch_size: int, machine: Machine, count: int = 50_000) -> Batches:
    """Return batches of the entire training split."""
    pixels = data.read(dataset, count)
    return Batches(pixels, torch.arange(len(pixels.images)), batch_size, machine)

"""Rows G1, G3, G4, G6 and G7, for one GPU. On a CPU they only test the code; their values mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from benchmarks.arms import loader
from benchmarks.arms.graphs import GraphTraining
from benchmarks.arms.work import CNN_32, CNN_MNIST, LSTM, MLP, RESNET_18
from benchmarks.measure import Line, Options, Record, Spread, at_least, at_most
from benchmarks.rows_loop import IN_ONE_CALL, line
from benchmarks.rows_whole import compare_fits, deterministic

G1_AUGMENT = (*loader.AUGMENT, {"name": "cutout"})


def g1(options: Options) -> Iterator[Record]:
    """Measure crop, flip, cutout and normalization in device memory."""
    count = 200 if options.quick else 50_000
    ours = loader.loader("MadeUp32", min(1024, count), count, G1_AUGMENT, options.device)
    rates = [count / loader.seconds_of_epoch(ours, e, options.device) / 1e6 for e in range(3 * options.pairs + 1)]
    found = Spread.of(rates[1:])
    note = "crop, flip, cutout and normalization of 32x32 color images, batch 1024"
    yield Record(
        "G1", "augmentation", found, at_least(10), "M images/s", {"litlab": found}, "M images/s", pairs=1, note=note
    )


def g3(options: Options) -> Iterator[Record]:
    """Measure a network that uses the GPU fully."""
    yield line("G3", "ResNet-18, batch 512", RESNET_18, at_most(1.05), options)


def g4(options: Options) -> Iterator[Line]:
    """Compare networks whose kernels take less time than their launch with the raw loop as a CUDA graph."""
    for what, work in (
        ("MLP 256-128, batch 256", MLP),
        ("small CNN, batch 128", CNN_MNIST),
        ("LSTM, batch 128", replace(LSTM, clip=None, overrides={"trainer.gradient_clip_val": None})),
    ):
        yield partial(line, "G4", what, work, at_most(1.15), options, IN_ONE_CALL, make_raw=GraphTraining)


def g6(options: Options) -> Iterator[Line]:
    """Compare complete runs with the naive program at its best number of workers."""
    choices = (0,) if options.quick else (0, 4, 8, 16)
    for what, work, epochs, target in (
        ("MNIST CNN", CNN_MNIST, 2, at_least(30)),
        ("CIFAR net (BatchNorm CNN)", CNN_32, 2, at_least(5)),
        ("ResNet-18", RESNET_18, 1, at_least(2)),
    ):
        yield partial(compare_fits, "G6", what, work, epochs, target, options, choices)


def g7(options: Options) -> Iterator[Line]:
    """Measure the cost of deterministic operations on a GPU."""
    yield from deterministic(options, "G7")

"""Rows C1 to C6: the loader and the loop, compared with hand-written code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.arms import bare, litlab, loader, naive, raw
from benchmarks.arms.raw import Machine
from benchmarks.arms.work import CNN, LSTM, MLP, MLP_512, RESNET, SOFTMAX, Work
from benchmarks.measure import Line, Options, Record, Spread, Target, at_least, at_most, ratios

IN_ONE_CALL = {"steps_per_call": 16}
Works = tuple[tuple[str, Work, Target], ...]

C3: Works = (
    ("CNN, batch 128", replace(CNN, fraction=0.4), at_most(1.03)),
    ("LSTM, batch 128", replace(LSTM, fraction=0.4), at_most(1.03)),
    ("small ResNet, batch 128", replace(RESNET, fraction=0.1), at_most(1.03)),
    ("CNN, batch 256", replace(CNN, batch_size=256, fraction=0.4), at_most(1.05)),
    ("CNN, batch 64", replace(CNN, batch_size=64, fraction=0.3), at_most(1.15)),
)
C4: tuple[tuple[str, Work, Target, Target], ...] = (
    ("MLP 256-128, batch 256", MLP, at_most(1.15), at_most(1.05)),
    ("softmax regression, batch 256", SOFTMAX, at_most(2.0), at_most(1.3)),
    ("softmax regression, batch 2048", replace(SOFTMAX, batch_size=2048), at_most(1.15), at_most(1.05)),
)
C6: Works = (
    ("CNN, batch 128", replace(CNN, fraction=0.2), at_least(2.5)),
    ("LSTM, batch 128", replace(LSTM, fraction=0.2), at_least(1.8)),
    ("MLP-512, batch 256", MLP_512, at_least(1.6)),
)


def sized(work: Work, options: Options) -> Work:
    """Return the task, or its tiny version with `--quick`."""
    return work.quick() if options.quick else work


def line(*arguments: Any, **how: Any) -> Record:
    """Return only the record of `against_raw`."""
    return against_raw(*arguments, **how)[0]


def c1(options: Options) -> Iterator[Record]:
    """Measure one epoch of the loader alone."""
    dataset = "FashionMNIST"
    by_hand = raw.loader(dataset, 128, Machine(torch.device(options.device)))
    ours = loader.loader(dataset, 128, 0, device=options.device)
    seconds: dict[str, list[float]] = {"raw": [], "litlab": []}
    for pair in range(3 * options.pairs + 1):  # short epochs
        seconds["raw"].append(loader.seconds_of_epoch(by_hand, device=options.device))
        seconds["litlab"].append(loader.seconds_of_epoch(ours, pair, options.device))
    raw_arm, own = seconds["raw"][1:], seconds["litlab"][1:]
    yield Record(
        "C1",
        "loader alone, batch 128",
        ratios(own, raw_arm),
        at_most(1.10),
        arms={"raw": Spread.of(raw_arm).times(1000), "litlab": Spread.of(own).times(1000)},
        arm_unit="ms",
        pairs=len(own),
        note=f"epoch of {len(by_hand.rows):,} images, float32 and normalized",
    )


def c2(options: Options) -> Iterator[Record]:
    """Compare the loader with the naive pipeline."""
    for what, augment, target in (
        ("no augmentation", False, at_least(100)),
        ("crop and flip", True, at_least(25)),
    ):
        source = naive.dataset("FashionMNIST", 0, augment)
        workers = naive.best_workers(source, 128, (0,) if options.quick else (0, 2))
        ours = loader.loader("FashionMNIST", 128, 0, loader.AUGMENT if augment else ())
        loader.seconds_of_epoch(ours)
        seconds: dict[str, list[float]] = {"naive": [], "litlab": []}
        for pair in range(options.pairs):
            seconds["naive"].append(naive.seconds_of_epoch(source, 128, workers))
            seconds["litlab"].append(loader.seconds_of_epoch(ours, pair + 1))
        yield Record(
            "C2",
            f"pipeline alone, {what}",
            ratios(seconds["naive"], seconds["litlab"]),
            target,
            arms={name: Spread.of(values) for name, values in seconds.items()},
            pairs=options.pairs,
            note=f"epoch of {len(source):,} images, naive with {workers} workers",  # type: ignore[arg-type]
        )


def against_raw(
    row: str,
    what: str,
    work: Work,
    target: Target,
    options: Options,
    overrides: Mapping[str, Any] | None = None,
    **how: Any,
) -> tuple[Record, litlab.Alternated]:
    """Return the record of litlab's epochs divided by those of the raw loop, and the measured times."""
    work = sized(work, options)
    found = litlab.alternate(work, options.pairs, overrides, options.device, **how)
    loop = ratios(found.loop, found.raw).median
    apart = f"without the end of the epoch {loop:.3f}"
    if not overrides and not how:  # the cost of Lightning with all optional features disabled
        alone = bare.alternate(work, found.steps * work.batch_size, options.pairs, found.machine)
        apart += f", a bare Trainer {ratios(alone.loop, alone.raw).median:.3f}"
    record = Record(
        row,
        what,
        ratios(found.epoch, found.raw),
        target,
        arms={"raw": Spread.of(found.raw), "litlab": Spread.of(found.epoch)},
        reached=found.reached,
        pairs=options.pairs,
        note=f"epochs of {found.steps} steps, {found.machine.text()}; {apart}",
    )
    return record, found


def c3(options: Options) -> Iterator[Line]:
    """Measure networks with a long step."""
    for what, work, target in C3:
        yield partial(line, "C3", what, work, target, options)


def c4(options: Options) -> Iterator[Line]:
    """Measure networks with a very short step, with one and with several steps per call."""
    for what, work, target, _ in C4:
        yield partial(line, "C4", what, work, target, options)
    for what, work, _, target in C4:
        yield partial(several, what, work, target, options)


def several(what: str, work: Work, target: Target, options: Options) -> Record:
    """Measure several steps per call, and compare the results with those of one step per call."""
    record, found = against_raw("C4", f"{what}, 16 steps per call", work, target, options, IN_ONE_CALL)
    plain = litlab.alternate(sized(work, options), options.pairs, device=options.device)
    same = {n: v for n, v in found.last.items() if n.startswith(("train/", "val/"))}.items() <= plain.last.items()
    record.note += f"; results {'bit-equal to' if same else 'DIFFERENT from'} one step per call"
    return record


def c5(options: Options) -> Iterator[Record]:
    """Measure milliseconds per step."""
    work = sized(SOFTMAX, options)
    number = 4  # the first epoch of each fit is a warmup
    added, costs = [], []
    steps, samples = 1, 0
    seconds: dict[str, list[float]] = {"raw": [], "bare": [], "litlab": []}
    machine_text = ""
    for _ in range(options.pairs):
        found = litlab.alternate(work, number - 1, {"trainer.log_every_n_steps": 50}, options.device)
        steps, machine_text = found.steps, found.machine.text()
        samples = samples or len(raw.loader(work.dataset, 1, Machine()).rows) - work.held_out
        alone = bare.alternate(work, samples, number - 1, found.machine)
        for name, values in (("raw", found.raw), ("bare", alone.loop), ("litlab", found.loop)):
            seconds[name].append(1000 * Spread.of(values).median / steps)
        # Compare each with the raw steps between its own, because the machine's speed changes between fits.
        over_raw = [[own - by_hand for own, by_hand in zip(arm.loop, arm.raw, strict=True)] for arm in (found, alone)]
        added.append(1000 / steps * (Spread.of(over_raw[0]).median - Spread.of(over_raw[1]).median))
    yield Record(
        "C5",
        "added to a bare Trainer, softmax regression, batch 256",
        Spread.of(added),
        at_most(0.1),
        "ms per step",
        {name: Spread.of(values) for name, values in seconds.items()},
        "ms per step",
        pairs=options.pairs,
        note=f"loops of {steps} steps, {machine_text}, logging every 50 steps",
    )
    found = litlab.alternate(work, 3 * options.pairs, {"trainer.log_every_n_steps": 50, **IN_ONE_CALL}, options.device)
    costs = [1000 * (own - by_hand) / steps for own, by_hand in zip(found.loop, found.raw, strict=True)]
    yield Record(
        "C5",
        "total cost over the raw step, 16 steps per call",
        Spread.of(costs),
        at_most(0.2),
        "ms per step",
        {
            "raw": Spread.of(found.raw).times(1000 / steps),
            "litlab": Spread.of(found.loop).times(1000 / steps),
        },
        "ms per step",
        pairs=len(costs),
        note=f"softmax regression, batch 256, loops of {steps} steps",
    )


def c6(options: Options) -> Iterator[Line]:
    """Measure the gain of the precision and layout that litlab chooses over plain float32."""
    for what, work, target in C6:
        yield partial(against_float32, what, work, target, options)


def against_float32(what: str, work: Work, target: Target, options: Options) -> Record:
    """Return the epochs of the raw loop in float32 and contiguous layout, divided by those of litlab."""
    work = sized(work, options)
    plain = Machine(torch.device(options.device))
    found = litlab.alternate(work, options.pairs, device=options.device, raw_machine=plain)
    return Record(
        "C6",
        what,
        ratios(found.raw, found.epoch),
        target,
        arms={"raw float32": Spread.of(found.raw), "litlab": Spread.of(found.epoch)},
        reached=found.reached,
        pairs=options.pairs,
        note=f"epochs of {found.steps} steps; litlab in {found.machine.text()}",
    )

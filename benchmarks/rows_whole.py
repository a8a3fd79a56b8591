"""Rows C7 to C10, C12, dashboards, deterministic and memory: complete commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from benchmarks.arms import litlab, naive
from benchmarks.arms.work import CNN, CNN_32, CNN_MNIST, LSTM, MLP, SOFTMAX, Work
from benchmarks.measure import ROOT, Line, Options, Record, Spread, Target, at_least, at_most, ratios
from benchmarks.rows_loop import sized

# name, task, epochs, target
C7: tuple[tuple[str, Work, int, Target], ...] = (
    ("softmax regression", replace(SOFTMAX, batch_size=128), 1, at_least(15)),
    ("MLP 256-128", replace(MLP, batch_size=128), 1, at_least(7)),
    ("small CNN", replace(CNN_MNIST, fraction=0.5, held_out=2500), 1, at_least(4)),
    ("LSTM", replace(LSTM, fraction=0.5, held_out=2500), 1, at_least(2.5)),
    ("BatchNorm CNN on 32x32", replace(CNN_32, count=20_000, held_out=2000), 1, at_least(4)),
)


class NotMeasuredError(Exception):
    """Error for a row that cannot be measured on this machine."""


def compare_fits(
    row: str, what: str, work: Work, epochs: int, target: Target, options: Options, choices: tuple[int, ...]
) -> Record:
    """Return the time of the naive program divided by that of `litlab fit`, for alternating complete runs."""
    work = sized(work, options)
    source = naive.dataset(work.dataset, work.count)
    workers = naive.best_workers(source, work.batch_size, choices)
    seconds: dict[str, list[float]] = {"naive": [], "litlab": []}
    reached: dict[str, float] = {}
    litlab.end_to_end(work, 1, options.device)  # warmup: code pages and kernels
    precision = ""
    for _ in range(options.pairs):
        with open(os.devnull, "w") as null, redirect_stdout(null), redirect_stderr(null):
            took, reached["naive"] = naive.fit(work, epochs, workers, options.folder, options.device)
        seconds["naive"].append(took)
        took, reached["litlab"], precision = litlab.end_to_end(work, epochs, options.device)
        seconds["litlab"].append(took)
    samples = round(work.fraction * (len(source) - work.held_out))  # type: ignore[arg-type]
    return Record(
        row,
        what,
        ratios(seconds["naive"], seconds["litlab"]),
        target,
        arms={name: Spread.of(values) for name, values in seconds.items()},
        reached=reached,
        pairs=options.pairs,
        note=f"{_epochs(epochs)} of {samples:,} images, batch {work.batch_size}, naive with {workers} workers, "
        f"litlab in {precision}",
    )


def _epochs(number: int) -> str:
    return f"{number} epoch{'' if number == 1 else 's'}"


def c7(options: Options) -> Iterator[Line]:
    """Measure complete runs."""
    choices = (0,) if options.quick else (0, 2)
    for what, work, epochs, target in C7:
        yield partial(compare_fits, "C7", what, work, epochs, target, options, choices)


def c8(_: Options) -> Iterator[Record]:
    """Measure the seconds until 99.0% accuracy on the official test set, with three seeds on one core."""
    config = "cnn_mnist_fast"
    if not (ROOT / "configs" / f"{config}.yaml").is_file():
        raise NotMeasuredError(f"config not found: {config}")
    seconds, accuracies = [], []
    for seed in range(3):
        fitted, tested = _child_run(config, seed)
        seconds.append(fitted["seconds"])
        accuracies.append(tested["metrics"]["test/acc"])
    mean = sum(accuracies) / len(accuracies)
    yield Record(
        "C8",
        "MNIST to 99.0% on one core",
        Spread.of(seconds),
        at_most(6.0) if mean >= 0.99 else at_most(0.0),  # below 99.0% the target counts as missed at any speed
        "s",
        {"litlab": Spread.of(seconds)},
        reached={"litlab, mean test accuracy": mean},
        pairs=3,
        note=f"{config}, one thread, without start-up; test accuracy {min(accuracies):.4f} to {max(accuracies):.4f}",
    )


def _child_run(config: str, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["fit", config, f"--seed_everything={seed}", "--test_after_fit=true"]
        _child(["-m", "experiments", *arguments], LITLAB_RUNS_DIR=folder, OMP_NUM_THREADS="1")
        fitted, tested = json.loads((Path(folder) / config / "0" / "results.json").read_text())
    return fitted, tested


def _child(arguments: list[str], **environment: str) -> str:
    """Return the output of a Python process. Raise NotMeasuredError if it fails."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise NotMeasuredError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _seconds(commands: dict[str, list[str]], pairs: int) -> dict[str, list[float]]:
    """Return the times of processes that run in turn, after one run each that reads the files from disk."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for pair in range(pairs + 1):
        for name, arguments in commands.items():
            start = time.perf_counter()
            _child(arguments)
            if pair:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def c9(options: Options) -> Iterator[Record]:
    """Measure the start-up of the command line."""
    commands = {
        "litlab": ["-m", "experiments"],
        "litlab list": ["-m", "experiments", "list"],
        "litlab fit --help": ["-m", "experiments", "fit", "--help"],
        "import lightning.pytorch": ["-c", "import lightning.pytorch"],
    }
    seconds = _seconds(commands, options.pairs)
    for name in ("litlab", "litlab list"):
        found = Spread.of(seconds[name])
        yield Record("C9", f"`{name}`", found, at_most(0.5), "s", {"litlab": found}, pairs=options.pairs)
    name, other = "litlab fit --help", "import lightning.pytorch"
    yield Record(
        "C9",
        f"`{name}` / `{other}`",
        ratios(seconds[name], seconds[other]),
        at_most(1.3),
        arms={other: Spread.of(seconds[other]), "litlab": Spread.of(seconds[name])},
        pairs=options.pairs,
    )


def c12(options: Options) -> Iterator[Record]:
    """Measure one epoch of the demo beyond the import of Lightning."""
    imports, fit = "import lightning.pytorch", "litlab fit"
    commands = {imports: ["-c", imports], fit: ["-m", "experiments", "fit", "--trainer.max_epochs=1"]}
    seconds = _seconds(commands, options.pairs)
    beyond = [ours - other for ours, other in zip(seconds[fit], seconds[imports], strict=True)]
    arms = {name: Spread.of(values) for name, values in seconds.items()}
    what = "`litlab fit`, demo, one epoch - `import lightning.pytorch`"
    yield Record("C12", what, Spread.of(beyond), at_most(1.0), "s", arms, pairs=options.pairs)


def c10(options: Options) -> Iterator[Record]:
    """Read finished runs of cifar10_fast from their folders."""
    if not options.runs:
        raise NotMeasuredError("no run folders. Train cifar10_fast and pass its run folders with --runs.")
    seconds, accuracies = [], []
    for folder in options.runs:
        records = json.loads((folder / "results.json").read_text())
        environment = json.loads((folder / "environment.json").read_text())
        if environment["chosen"]["threads"] >= environment["hardware"]["cores"]:  # ignore runs on a part of the machine
            seconds.append(next(r["seconds"] for r in records if r["verb"] == "fit") / 60)
        accuracies.append(next(r["metrics"]["test/acc"] for r in reversed(records) if r["verb"] == "test"))
    reached = {"litlab, lowest": min(accuracies), "litlab, mean": sum(accuracies) / len(accuracies)}
    if seconds:
        note = f"{len(seconds)} run{'' if len(seconds) == 1 else 's'} with all cores"
        yield Record("C10", "time", Spread.of(seconds), at_most(12.0), "min", {}, reached=reached, note=note)
    note = f"{len(accuracies)} seed{'' if len(accuracies) == 1 else 's'}"
    percent = Spread.of([100 * accuracy for accuracy in accuracies])
    yield Record("C10", "single view, test accuracy", percent, at_least(90.5), "%", {}, note=note)


def dashboards(options: Options) -> Iterator[Record]:
    """Measure the cost of dashboards: complete fits with the shipped ones and with all, divided by fits without."""
    work = replace(sized(CNN, options), fraction=CNN.fraction)
    config, epochs = "cnn_fashion_mnist", 1 if options.quick else 5
    arms: dict[str, Callable[[], list[Callback]]] = {
        "none": list,
        "shipped": partial(litlab.dashboards, config),
        "every": partial(litlab.dashboards, config, every=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    litlab.end_to_end(work, 1, options.device, litlab.dashboards(config, every=True))  # warmup
    for _ in range(options.pairs):
        for name, make in arms.items():
            seconds[name].append(litlab.end_to_end(work, epochs, options.device, make())[0])
    for name, limit in (("shipped", 1.05), ("every", 1.15)):
        yield Record(
            "dashboards",
            f"{config}, {'shipped callbacks' if name == 'shipped' else 'all callbacks, every 10 steps'}",
            ratios(seconds[name], seconds["none"]),
            at_most(limit),
            arms={arm: Spread.of(seconds[arm]) for arm in ("none", name)},
            pairs=options.pairs,
            note=f"complete runs of {epochs} epochs",
        )


def deterministic(options: Options, row: str = "deterministic") -> Iterator[Line]:
    """Measure the cost of `--trainer.deterministic true`: alternating complete runs with and without it."""
    for what, work in (("small CNN, batch 128", CNN_MNIST), ("LSTM, batch 128", LSTM)):
        yield partial(_deterministic, row, what, replace(work, fraction=0.1, held_out=1000), options)


def _deterministic(row: str, what: str, work: Work, options: Options) -> Record:
    work, epochs = sized(work, options), 1 if options.quick else 2
    seconds: dict[str, list[float]] = {"default": [], "deterministic": []}
    reached: dict[str, float] = {}
    precision = ""
    litlab.end_to_end(work, 1, options.device)  # warmup
    for _ in range(options.pairs):
        for name in seconds:
            flag = {"trainer.deterministic": name == "deterministic"}
            took, reached[name], precision = litlab.end_to_end(work, epochs, options.device, overrides=flag)
            seconds[name].append(took)
    return Record(
        row,
        f"--trainer.deterministic true, {what}",
        ratios(seconds["deterministic"], seconds["default"]),
        None,
        arms={name: Spread.of(values) for name, values in seconds.items()},
        reached=reached,
        pairs=options.pairs,
        note=f"complete runs of {_epochs(epochs)}, {precision}",
    )


def memory(options: Options) -> Iterator[Record]:
    """Measure the peak memory above the imports."""
    works: list[tuple[str, list[str]]] = [("cnn_fashion_mnist, one epoch", ["cnn_fashion_mnist"])]
    if options.images is not None:
        arguments = ["cifar10_fast", "--data=ImageFolderDataModule", f"--data.data_dir={options.images}"]
        arguments.append("--data.augment=[{name: crop, padding: 2, mode: reflect}, {name: flip, mode: alternating}]")
        works.append(("cifar10_fast on a folder of JPEG files, one epoch of 32x32 images", arguments))
    for what, arguments in works:
        steps = ["--trainer.max_epochs=1"]
        if options.quick:
            steps += ["--data.val_split=20", "--trainer.limit_train_batches=2"]
        with tempfile.TemporaryDirectory() as folder:
            printed = _child([str(ROOT / "benchmarks" / "memory.py"), *arguments, *steps], LITLAB_RUNS_DIR=folder)
        found = json.loads(printed.strip().splitlines()[-1])
        if found["code"]:
            raise NotMeasuredError(f"{' '.join(arguments)} ended with {found['code']}")
        above = Spread.of([found["above"]])
        arms = {"imports": Spread.of([found["before"]]), "data": Spread.of([found["data"]]), "litlab": above}
        target = at_most(3 * found["data"] + 300)
        yield Record(
            "memory",
            what,
            above,
            target,
            "MiB",
            arms,
            "MiB",
            note="peak above the imports; limit is 3 x data + 300 MiB",
        )

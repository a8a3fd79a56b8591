"""Train many small runs in one Python process and check for leaked resources and files.

    python benchmarks/week.py                 500 runs
    python benchmarks/week.py --fits 100 --every 20

The script trains a small network on scikit-learn's digits with `experiments.fit`. It alternates plain runs, runs that
are tested and loaded, runs with figures, runs with worker processes, and runs that a user error or a NaN loss ends.
Every line counts the resources in use between two runs. The exit code is 1 if a count grew, or if memory grew by more
than 60 MiB after the first fifth of the runs. Linux only.
"""

from __future__ import annotations

import argparse
import gc
import io
import logging
import multiprocessing.util
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a script: make the root of the repository importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.memory import megabytes

SMALL = {
    "data.val_split": 0.1,
    "data.train_fraction": 0.1,
    "data.batch_size": 64,
    "model.hidden": [16],
}
# The expected names in a run folder; all other files are stray.
KNOWN = {"config.yaml", "environment.json", "metrics.csv", "results.json", "checkpoints", "figures", ".lock"}


MOST_GROWTH = 60.0  # MiB between the first fifth of the runs and the last run


@dataclass(frozen=True)
class Resources:
    """The resources of the process between two runs; all except `rss` (MiB) are counts that must not grow."""

    rss: float
    open_files: int
    threads: int
    children: int
    tensors: int
    trainers: int
    modules: int
    data: int
    figures: int
    log_handlers: int
    warning_filters: int
    environment: int
    python_path: int
    stray_files: int

    @classmethod
    def now(cls, runs: Path, temporary: Path) -> Resources:
        """Count the resources after running the garbage collector."""
        gc.collect()
        from lightning.pytorch import LightningDataModule, LightningModule, Trainer

        objects = gc.get_objects()

        def alive(kind: type) -> int:
            return sum(issubclass(type(found), kind) for found in objects)

        return cls(
            rss=megabytes("VmRSS"),
            open_files=len(os.listdir("/proc/self/fd")),
            threads=threading.active_count(),
            children=_children(),
            tensors=alive(sys.modules["torch"].Tensor),
            trainers=alive(Trainer),
            modules=alive(LightningModule),
            data=alive(LightningDataModule),
            figures=len(sys.modules["matplotlib.pyplot"].get_fignums()) if "matplotlib.pyplot" in sys.modules else 0,
            log_handlers=_log_handlers(),
            warning_filters=len(warnings.filters),
            environment=len(os.environ),
            python_path=len(sys.path),
            stray_files=len(strays(runs, temporary)),
        )

    def grown(self, before: Resources) -> dict[str, tuple[int, int]]:
        """Return the counts that are higher than before, without memory."""
        names = [field.name for field in fields(self) if field.name != "rss"]
        pairs = {name: (getattr(before, name), getattr(self, name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[1] > pair[0]}


def _children() -> int:
    """Return the number of child processes that still run or were not waited for."""
    tasks = Path("/proc/self/task")
    return sum(len((task / "children").read_text().split()) for task in tasks.iterdir())


def _log_handlers() -> int:
    """Return the number of handlers and filters of all loggers."""
    known = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    return sum(len(logger.handlers) + len(logger.filters) for logger in known)


def strays(runs: Path, temporary: Path) -> list[Path]:
    """Return stray files: all except locks in the temporary folder, and unexpected names in run folders."""
    found = [path for path in temporary.rglob("*") if not path.name.endswith(".lock")]
    for path in runs.glob("*/*"):
        if not path.name.isdigit():
            found.append(path)
            continue
        events = [inner for inner in path.iterdir() if inner.name.startswith("events.out.tfevents.")]
        found += [inner for inner in path.iterdir() if inner.name not in KNOWN and inner not in events]
        found += [inner for inner in path.rglob("*") if inner.name.endswith((".part", ".new"))]
    return found


def handlers() -> dict[str, Any]:
    """Return the process-wide state that a run changes and must restore."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    return {
        **{number.name: signal.getsignal(number) for number in signals},
        "excepthook": sys.excepthook,
        "unraisablehook": sys.unraisablehook,
        "stdout": sys.stdout,
        "folder": os.getcwd(),
        "python path": list(sys.path),
    }


def plain() -> None:
    """Train a plain run."""
    _fit()


def tested() -> None:
    """Train a run, test it and use its model."""
    import torch

    run = _fit()
    run.test()
    run.model(torch.zeros(1, 1, 8, 8))


def plotted() -> None:
    """Train a run with figures in TensorBoard and as files."""
    _fit({"trainer.callbacks+": "ClassificationEvidence"})


def with_workers() -> None:
    """Train a run whose batches come from a worker process."""
    _fit({"data.holding": "workers", "data.num_workers": 1})


def user_error() -> None:
    """Start a run that a user error ends after the data is loaded."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    with suppress(MisconfigurationException):
        _fit({"monitor": "val/nothing"})


def failed() -> None:
    """Train a run whose loss becomes NaN."""
    from experiments.command_line.exit_codes import TrainingFailed

    with suppress(TrainingFailed):
        _fit({"model.optimizer": "sgd", "model.optimizer.lr": 1e30})


KINDS: tuple[Callable[[], None], ...] = (
    plain, tested, plain, plotted, plain, with_workers, plain, user_error, plain, failed
)  # fmt: skip


def _fit(overrides: dict[str, Any] | None = None) -> Any:
    from experiments import fit

    return fit("mlp_digits", overrides={**SMALL, **(overrides or {})}, max_epochs=2)


def train_many(
    fits: int, every: int, report: Callable[[int, Resources], None]
) -> tuple[Resources, Resources, Resources]:
    """Train `fits` runs in the current folder and return the resources after three numbers of runs.

    These are two cycles of all kinds (at most half of the runs), a fifth of the runs, and all runs.
    """
    runs, temporary = Path("runs").resolve(), Path(tempfile.gettempdir())
    first = min(2 * len(KINDS), max(1, fits // 2))
    settled = max(first, fits // 5)
    seen: dict[int, Resources] = {}
    for number in range(1, fits + 1):
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            KINDS[(number - 1) % len(KINDS)]()
        if number in (first, settled) or number % every == 0:
            seen[number] = Resources.now(runs, temporary)
            report(number, seen[number])
    return seen[first], seen[settled], Resources.now(runs, temporary)


@contextmanager
def isolated(temporary: Path, work: Path) -> Iterator[None]:
    """Work in these folders without log messages of single runs, and restore the state of the process afterwards."""
    folder, variable = os.getcwd(), os.environ.get("TMPDIR")
    known, level = tempfile.tempdir, logging.root.manager.disable
    # Worker processes use sockets in a folder that Python chooses once. Choose it before the temporary one is set.
    multiprocessing.util.get_temp_dir()
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    logging.disable(logging.INFO)
    os.chdir(work)
    try:
        yield
    finally:
        os.chdir(folder)
        logging.disable(level)
        tempfile.tempdir = known
        del os.environ["TMPDIR"]
        if variable is not None:
            os.environ["TMPDIR"] = variable


def main(argv: Sequence[str] | None = None) -> int:
    """Train the runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=int, default=500)
    parser.add_argument("--every", type=int, default=50, help="print a line after this many runs")
    args = parser.parse_args(argv)
    if args.fits < 2 or args.every < 1:
        parser.error(
            "--fits must be at least 2, because the last run is compared with an earlier one, and --every at least 1."
        )
    names = [field.name for field in fields(Resources)]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="week-") as folder:
        work, temporary = Path(folder, "work"), Path(folder, "tmp")
        work.mkdir()
        temporary.mkdir()
        print("  ".join(["fits", "   s", *names]))

        def report(number: int, resources: Resources) -> None:
            cells = [f"{value:.0f}".rjust(len(name)) for name, value in asdict(resources).items()]
            print("  ".join([f"{number:4}", f"{time.monotonic() - started:4.0f}", *cells]), flush=True)

        with isolated(temporary, work):
            first, settled, last = train_many(args.fits, args.every, report)
            left = strays(work / "runs", temporary)
    grown = last.grown(first)
    for name, (was, now) in grown.items():
        print(f"{name} grew from {was} to {now}")
    for path in left:
        print(f"stray file: {path}")
    print(f"memory: {first.rss:.0f} MiB, then {settled.rss:.0f}, and {last.rss:.0f} MiB after {args.fits} runs")
    memory_grew = last.rss - settled.rss > MOST_GROWTH
    if memory_grew:
        print(f"memory grew by more than {MOST_GROWTH:.0f} MiB")
    return 1 if grown or memory_grew else 0


if __name__ == "__main__":
    sys.exit(main())

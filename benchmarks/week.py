"""A week of small runs in one Python process: does anything grow, and is anything left behind?

    python benchmarks/week.py                 500 runs
    python benchmarks/week.py --fits 100 --every 20

Runs in turn of a small network on scikit-learn's digits, started through `experiments.fit`: plain ones, ones that are
tested and loaded, ones that draw figures, ones that read by worker processes, and ones that a mistake or a loss of NaN
ends. Every line counts what is alive between two runs. The exit code is 1 where a count grew, or where memory grew by
more than 60 MiB after the first fifth of the runs. Linux only.
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

if __package__ in (None, ""):  # started as a file: its imports are found from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.memory import megabytes

SMALL = {
    "data.val_split": 0.1,
    "data.train_fraction": 0.1,
    "data.batch_size": 64,
    "model.hidden": [16],
}
# The names of a run folder; anything else in one is a stray file.
KNOWN = {"config.yaml", "environment.json", "metrics.csv", "results.json", "checkpoints", "figures", ".lock"}


MOST_GROWTH = 60.0  # MiB of memory between the first fifth of the runs and the last one


@dataclass(frozen=True)
class Alive:
    """What a process holds between two runs; all but the memory are counts that must not grow."""

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
    def now(cls, runs: Path, temporary: Path) -> Alive:
        """Count, after the garbage collector has run."""
        gc.collect()
        from lightning.pytorch import LightningDataModule, LightningModule, Trainer

        things = gc.get_objects()

        def alive(kind: type) -> int:
            return sum(issubclass(type(thing), kind) for thing in things)

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

    def grown(self, before: Alive) -> dict[str, tuple[int, int]]:
        """The counts that are higher than before, memory left out."""
        names = [field.name for field in fields(self) if field.name != "rss"]
        pairs = {name: (getattr(before, name), getattr(self, name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[1] > pair[0]}


def _children() -> int:
    """Processes that this one started and that still run or were not waited for."""
    tasks = Path("/proc/self/task")
    return sum(len((task / "children").read_text().split()) for task in tasks.iterdir())


def _log_handlers() -> int:
    """Handlers and filters of every logger."""
    known = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    return sum(len(logger.handlers) + len(logger.filters) for logger in known)


def strays(runs: Path, temporary: Path) -> list[Path]:
    """Files that no run should leave: in the temporary folder all but locks, in a run folder what has no known name."""
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
    """What a run sets for its own time and has to put back."""
    noted = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    return {
        **{number.name: signal.getsignal(number) for number in noted},
        "excepthook": sys.excepthook,
        "unraisablehook": sys.unraisablehook,
        "stdout": sys.stdout,
        "folder": os.getcwd(),
        "python path": list(sys.path),
    }


def plain() -> None:
    """A run as most are."""
    _fit()


def tested() -> None:
    """A run that is scored, and its model used."""
    import torch

    run = _fit()
    run.test()
    run.model(torch.zeros(1, 1, 8, 8))


def drawn() -> None:
    """A run with figures, in TensorBoard and as files."""
    _fit({"trainer.callbacks+": "ClassificationEvidence"})


def served() -> None:
    """A run whose batches come from a worker process."""
    _fit({"data.holding": "workers", "data.num_workers": 1})


def mistaken() -> None:
    """A run that a mistake ends once the data is there."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    with suppress(MisconfigurationException):
        _fit({"monitor": "val/nothing"})


def failed() -> None:
    """A run whose loss is no number."""
    from experiments.command_line.exit_codes import TrainingFailed

    with suppress(TrainingFailed):
        _fit({"model.optimizer": "sgd", "model.optimizer.lr": 1e30})


KINDS: tuple[Callable[[], None], ...] = (plain, tested, plain, drawn, plain, served, plain, mistaken, plain, failed)


def _fit(overrides: dict[str, Any] | None = None) -> Any:
    from experiments import fit

    return fit("mlp_digits", overrides={**SMALL, **(overrides or {})}, max_epochs=2)


def week(fits: int, every: int, report: Callable[[int, Alive], None]) -> tuple[Alive, Alive, Alive]:
    """So many runs in the present folder; what was alive after two rounds of all kinds, a fifth of the runs, and all.

    Of a few runs, the first half is what the end is compared with.
    """
    runs, temporary = Path("runs").resolve(), Path(tempfile.gettempdir())
    begun = min(2 * len(KINDS), max(1, fits // 2))
    settled = max(begun, fits // 5)
    seen: dict[int, Alive] = {}
    for number in range(1, fits + 1):
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            KINDS[(number - 1) % len(KINDS)]()
        if number in (begun, settled) or number % every == 0:
            seen[number] = Alive.now(runs, temporary)
            report(number, seen[number])
    return seen[begun], seen[settled], Alive.now(runs, temporary)


@contextmanager
def apart(temporary: Path, work: Path) -> Iterator[None]:
    """Work in these folders, without the notes of single runs; afterwards everything is as it was."""
    folder, variable = os.getcwd(), os.environ.get("TMPDIR")
    known, level = tempfile.tempdir, logging.root.manager.disable
    # Worker processes meet at sockets in a folder that Python chooses once: not in the one that goes with this week.
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


def main(words: Sequence[str] | None = None) -> int:
    """Run them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=int, default=500)
    parser.add_argument("--every", type=int, default=50, help="print a line after so many")
    asked = parser.parse_args(words)
    if asked.fits < 2 or asked.every < 1:
        parser.error("--fits takes 2 or more, as the last run is compared with an earlier one, and --every 1 or more")
    names = [field.name for field in fields(Alive)]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="week-") as folder:
        work, temporary = Path(folder, "work"), Path(folder, "tmp")
        work.mkdir()
        temporary.mkdir()
        print("  ".join(["fits", "   s", *names]))

        def report(number: int, alive: Alive) -> None:
            cells = [f"{value:.0f}".rjust(len(name)) for name, value in asdict(alive).items()]
            print("  ".join([f"{number:4}", f"{time.monotonic() - started:4.0f}", *cells]), flush=True)

        with apart(temporary, work):
            first, settled, last = week(asked.fits, asked.every, report)
            left = strays(work / "runs", temporary)
    grown = last.grown(first)
    for name, (was, now) in grown.items():
        print(f"{name} grew from {was} to {now}")
    for path in left:
        print(f"left behind: {path}")
    print(f"memory: {first.rss:.0f} MiB, then {settled.rss:.0f}, and {last.rss:.0f} MiB after {asked.fits} runs")
    swollen = last.rss - settled.rss > MOST_GROWTH
    if swollen:
        print(f"memory grew by more than {MOST_GROWTH:.0f} MiB")
    return 1 if grown or swollen else 0


if __name__ == "__main__":
    sys.exit(main())

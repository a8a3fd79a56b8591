"""Speed of litlab beside code written by hand and beside the code that courses teach.

    python benchmarks/speed.py                       measure what is missing, then write the table
    python benchmarks/speed.py --rows C1,C3 --pairs 7   these rows, again
    python benchmarks/speed.py --device cuda         G1, G3, G4, G6 and G7 on a GPU
    python benchmarks/speed.py --table               only write the table

Arms take turns (A B A B), each pair gives a ratio, and the median of the ratios is what counts. Every figure is kept
in results/speed.json at once: stop with Ctrl-C whenever you like. MNIST and FashionMNIST are read from
LITLAB_DATA_DIR; where they are missing, images of the same size are made up. docs/benchmarks.md tells what is timed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.measure import Line, Options, Store

if __package__ in (None, ""):  # started as a file: its imports are found from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="such as C1,C3,memory; default: all that have no figure yet")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--clock",
        choices=("wall", "processor"),
        default="wall",
        help="processor: time spent computing, for a machine under other load; one thread",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs; figures mean nothing")
    parser.add_argument("--images", type=Path, help="folder of JPEG files, train/<class>/...; or LITLAB_CIFAR_JPEG")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="finished run folders of cifar10_fast")
    parser.add_argument("--results", type=Path, help="another place for the figures")
    parser.add_argument("--page", type=Path, help="another page to write the table into")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args(words)
    if options.pairs < 1 or options.threads < 1:
        parser.error("--pairs and --threads: give 1 or more")
    if options.clock == "processor" and (options.threads > 1 or options.device != "cpu"):
        parser.error("--clock processor: only with --threads 1 --device cpu, for it adds up what threads compute")
    return options


def main(words: list[str] | None = None) -> int:
    """Measure, then write the table; 1 when a row that was asked for could not be measured."""
    asked = arguments(words)
    os.environ.setdefault("OMP_NUM_THREADS", str(asked.threads))  # before torch is imported, and for child processes
    import torch

    from benchmarks import rows_gpu, rows_loop, rows_whole, table
    from benchmarks.arms.raw import CLOCK
    from benchmarks.measure import ROOT, Options, Store

    whole = ("C7", "C8", "C9", "C10", "dashboards", "deterministic", "memory")
    families: dict[str, Callable[[Options], Iterator[Line]]] = {
        **{name: getattr(rows_loop, name.lower()) for name in ("C1", "C2", "C3", "C4", "C5", "C6")},
        **{name: getattr(rows_whole, name.lower()) for name in whole},
        **{name: getattr(rows_gpu, name.lower()) for name in ("G1", "G3", "G4", "G6", "G7")},
    }
    store = Store(asked.results or ROOT / "benchmarks" / "results" / "speed.json")
    page = asked.page or ROOT / "docs" / "benchmarks.md"
    kinds = "G" if asked.device == "cuda" else ("C", "dashboards", "deterministic", "memory")
    done = {kept["row"] for kept in store.load().values()}
    chosen = [name for name in families if name.startswith(kinds) and name not in done]
    if asked.rows:
        chosen = asked.rows.split(",")
        if unknown := set(chosen) - set(families):
            raise SystemExit(f"--rows: {', '.join(sorted(unknown))} is not known; known are {', '.join(families)}")
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("not measured: this machine has no CUDA device")
        chosen = []
    if asked.table:
        chosen = []
    torch.set_num_threads(asked.threads)
    CLOCK[0] = asked.clock
    images = asked.images or (Path(os.environ["LITLAB_CIFAR_JPEG"]) if os.environ.get("LITLAB_CIFAR_JPEG") else None)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        options = Options(
            asked.pairs, asked.threads, asked.device, asked.quick, images, tuple(asked.runs), Path(folder)
        )
        set_the_scene(Path(folder), asked.quick)
        for name in chosen:
            failed |= not measure(name, families[name], options, store)
    table.write(page, store.load())
    return int(failed and bool(asked.rows))


def set_the_scene(folder: Path, quick: bool) -> None:
    """Runs go to a temporary folder, missing data is made up, libraries' remarks about themselves are dropped."""
    from benchmarks.arms import data
    from experiments.messages.library_noise import quiet_libraries

    os.environ["LITLAB_RUNS_DIR"] = str(folder / "runs")
    missing = not all((data.folder() / name / "raw").is_dir() for name in data.IDX)
    if quick or missing:
        print("Images of MNIST's and FashionMNIST's size are made up.")
        data.write_idx(folder / "data", *((100, 20) if quick else (60_000, 10_000)))
        os.environ["LITLAB_DATA_DIR"] = str(folder / "data")
    quiet_libraries()
    warnings.simplefilter("ignore")


def measure(name: str, family: Callable[[Options], Iterator[Line]], options: Options, store: Store) -> bool:
    """All lines of a row, each kept and printed at once; False when one could not be measured."""
    from benchmarks import table

    begun, well = time.perf_counter(), True
    lines = family(options)
    while True:
        try:
            found = next(lines, None)
            if found is None:
                break
            record = found() if callable(found) else found
            print(table.line(store.keep(record, options)), flush=True)
        except Exception as problem:  # one line's failure must not cost the others
            if os.environ.get("LITLAB_DEBUG"):
                raise
            print(f"{name}: not measured: {type(problem).__name__}: {problem}", flush=True)
            well = False
    print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
    return well


if __name__ == "__main__":
    sys.exit(main())

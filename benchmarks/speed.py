"""Speed of litlab compared with hand-written code and with typical tutorial code.

    python benchmarks/speed.py                       measure the missing rows, then write the table
    python benchmarks/speed.py --rows C1,C3 --pairs 7   measure these rows again
    python benchmarks/speed.py --device cuda         measure G1, G3, G4, G6 and G7 on a GPU
    python benchmarks/speed.py --table               only write the table

The arms alternate (A B A B). Each pair gives a ratio, and the result is the median of the ratios. The script saves
every value in results/speed.json at once, so you can stop it with Ctrl-C at any time. It reads MNIST and FashionMNIST
from LITLAB_DATA_DIR, or generates images of the same size if they are missing. docs/benchmarks.md describes each row.
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

if __package__ in (None, ""):  # started as a script: make the root of the repository importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="for example C1,C3,memory; default: all rows without a value")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--clock",
        choices=("wall", "processor"),
        default="wall",
        help="processor: CPU time, for a machine under other load; only with one thread",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes for a functional test; the values mean nothing"
    )
    parser.add_argument(
        "--images", type=Path, help="folder of JPEG files, train/<class>/...; default: LITLAB_CIFAR_JPEG"
    )
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="finished run folders of cifar10_fast")
    parser.add_argument("--results", type=Path, help="another file for the values")
    parser.add_argument("--page", type=Path, help="another page for the table")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args(argv)
    if options.pairs < 1 or options.threads < 1:
        parser.error("--pairs and --threads must be at least 1.")
    if options.clock == "processor" and (options.threads > 1 or options.device != "cpu"):
        parser.error("--clock processor sums the time of all threads. Use it with --threads 1 --device cpu.")
    return options


def main(argv: list[str] | None = None) -> int:
    """Measure, then write the table; return 1 if a requested row could not be measured."""
    args = parse_arguments(argv)
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))  # before torch is imported, and for child processes
    import torch

    from benchmarks import rows_gpu, rows_loop, rows_whole, table
    from benchmarks.arms.raw import CLOCK
    from benchmarks.measure import ROOT, Options, Store

    others = ("C7", "C8", "C9", "C10", "C12", "dashboards", "deterministic", "memory")
    families: dict[str, Callable[[Options], Iterator[Line]]] = {
        **{name: getattr(rows_loop, name.lower()) for name in ("C1", "C2", "C3", "C4", "C5", "C6")},
        **{name: getattr(rows_whole, name.lower()) for name in others},
        **{name: getattr(rows_gpu, name.lower()) for name in ("G1", "G3", "G4", "G6", "G7")},
    }
    store = Store(args.results or ROOT / "benchmarks" / "results" / "speed.json")
    page = args.page or ROOT / "docs" / "benchmarks.md"
    kinds = "G" if args.device == "cuda" else ("C", "dashboards", "deterministic", "memory")
    done = {stored["row"] for stored in store.load().values()}
    chosen = [name for name in families if name.startswith(kinds) and name not in done]
    if args.rows:
        chosen = args.rows.split(",")
        if unknown := set(chosen) - set(families):
            raise SystemExit(f"--rows: unknown row {', '.join(sorted(unknown))}. Use {', '.join(families)}.")
    if args.device == "cuda" and not torch.cuda.is_available():
        print("not measured: this machine has no CUDA device")
        chosen = []
    if args.table:
        chosen = []
    torch.set_num_threads(args.threads)
    CLOCK[0] = args.clock
    images = args.images or (Path(os.environ["LITLAB_CIFAR_JPEG"]) if os.environ.get("LITLAB_CIFAR_JPEG") else None)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        options = Options(args.pairs, args.threads, args.device, args.quick, images, tuple(args.runs), Path(folder))
        prepare_environment(Path(folder), args.quick)
        for name in chosen:
            failed |= not measure(name, families[name], options, store)
    table.write(page, store.load())
    return int(failed and bool(args.rows))


def prepare_environment(folder: Path, quick: bool) -> None:
    """Set a temporary run folder, generate missing data and silence library warnings."""
    from benchmarks.arms import data
    from experiments.messages.library_noise import quiet_libraries

    os.environ["LITLAB_RUNS_DIR"] = str(folder / "runs")
    missing = not all((data.folder() / name / "raw").is_dir() for name in data.IDX)
    if quick or missing:
        print("MNIST and FashionMNIST are replaced by synthetic images of the same size.")
        data.write_idx(folder / "data", *((100, 20) if quick else (60_000, 10_000)))
        os.environ["LITLAB_DATA_DIR"] = str(folder / "data")
    quiet_libraries()
    warnings.simplefilter("ignore")


def measure(name: str, family: Callable[[Options], Iterator[Line]], options: Options, store: Store) -> bool:
    """Measure, save and print the lines of a row; return False if one could not be measured."""
    from benchmarks import table

    started, success = time.perf_counter(), True
    lines = family(options)
    while True:
        try:
            found = next(lines, None)
            if found is None:
                break
            record = found() if callable(found) else found
            print(table.line(store.add(record, options)), flush=True)
        except Exception as problem:  # a failure must not affect the other lines
            if os.environ.get("LITLAB_DEBUG"):
                raise
            print(f"{name}: not measured: {type(problem).__name__}: {problem}", flush=True)
            success = False
    print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    return success


if __name__ == "__main__":
    sys.exit(main())

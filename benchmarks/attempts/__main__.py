"""The measurements for "Missed targets and attempted improvements" in docs/benchmarks.md.

    python -m benchmarks.attempts                  run all of them, about half an hour on two idle cores
    python -m benchmarks.attempts precision calls   run only these

The arms alternate in rounds. The script prints the medians with minimum and maximum, as rows of a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.attempts.rounds import AttemptOptions

NAMES = ("precision", "calls", "switches", "convolutions", "recipe", "share")


def main(argv: list[str] | None = None) -> int:
    """Run the measurements and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes for a functional test; the values mean nothing"
    )
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"unknown name: {', '.join(sorted(unknown))}. Use {', '.join(NAMES)}.")
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads must be at least 1.")
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))  # before torch is imported
    import torch

    from benchmarks import speed
    from benchmarks.attempts import network, rounds, training

    measures: dict[str, Callable[[AttemptOptions], None]] = {
        name: getattr(network if hasattr(network, name) else training, name) for name in NAMES
    }
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        options = rounds.AttemptOptions(args.rounds, args.threads, args.quick)
        speed.prepare_environment(Path(folder), args.quick)
        print(rounds.conditions(options))
        for name in args.names or NAMES:
            print(f"\n{name}: {(measures[name].__doc__ or '').splitlines()[0]}\n", flush=True)
            measures[name](options)
    torch.set_num_threads(before)
    return 0


if __name__ == "__main__":
    sys.exit(main())

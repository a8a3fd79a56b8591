"""The measurements behind "Targets that are missed, and what was tried" in docs/benchmarks.md.

    python -m benchmarks.attempts                  all of them, about half an hour on two idle cores
    python -m benchmarks.attempts precision calls   these

Arms take turns, round after round; printed are the medians with least and most, as rows of a Markdown table.
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
    from benchmarks.attempts.rounds import Asked

NAMES = ("precision", "calls", "switches", "convolutions", "recipe", "share")


def main(words: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs; figures mean nothing")
    found = parser.parse_args(words)
    if unknown := set(found.names) - set(NAMES):
        parser.error(f"{', '.join(sorted(unknown))}: not known; known are {', '.join(NAMES)}")
    if found.rounds < 1 or found.threads < 1:
        parser.error("--rounds and --threads: give 1 or more")
    os.environ.setdefault("OMP_NUM_THREADS", str(found.threads))  # before torch is imported
    import torch

    from benchmarks import speed
    from benchmarks.attempts import network, rounds, training

    measures: dict[str, Callable[[Asked], None]] = {
        name: getattr(network if hasattr(network, name) else training, name) for name in NAMES
    }
    before = torch.get_num_threads()
    torch.set_num_threads(found.threads)
    with tempfile.TemporaryDirectory() as folder:
        asked = rounds.Asked(found.rounds, found.threads, found.quick)
        speed.set_the_scene(Path(folder), found.quick)
        print(rounds.conditions(asked))
        for name in found.names or NAMES:
            print(f"\n{name}: {(measures[name].__doc__ or '').splitlines()[0]}\n", flush=True)
            measures[name](asked)
    torch.set_num_threads(before)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Compare the speed of the training loop in two checkouts of litlab: is a change slower?

    python benchmarks/versions.py ../before .                    all tasks, five rounds
    python benchmarks/versions.py ../before . --tasks SOFTMAX,MLP --rounds 8

Each round trains every task once in each checkout (A B, then B A) in a process of its own. As in rows C3 to C5, each
epoch of litlab alternates with an epoch of the raw loop, so that `epoch / raw` does not depend on the speed of the
machine at that time. `setup` is the time of the whole fit without these epochs: start-up, sanity check, validation
and end figures, without the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

TASKS = {
    "CNN": "replace(CNN, fraction=0.2)",
    "LSTM": "replace(LSTM, fraction=0.4)",
    "RESNET": "replace(RESNET, fraction=0.05)",
    "MLP": "MLP",
    "SOFTMAX": "SOFTMAX",
    "SOFTMAX_2048": "replace(SOFTMAX, batch_size=2048)",
}

# Both checkouts must have this part of benchmarks/arms. The first fit of a process loads modules, so it is not counted.
CHILD = """
import json, statistics, time
from dataclasses import replace
from benchmarks.arms import litlab
from benchmarks.arms.work import *
task, epochs = {task}, {epochs}
litlab.train(replace(task, fraction=0.01), 1)
start = time.perf_counter()
found = litlab.alternate(task, epochs)
seconds = time.perf_counter() - start
epoch = statistics.median(found.epoch) / statistics.median(found.raw)
loop = statistics.median(found.loop) / statistics.median(found.raw)
setup = seconds - sum(found.raw) - sum(found.epoch)
added = 1000 * (statistics.median(found.loop) - statistics.median(found.raw)) / found.steps
print(json.dumps(dict(epoch=epoch, loop=loop, added=added, setup=setup, raw=statistics.median(found.raw))))
"""
UNITS = {"epoch": "epoch / raw", "loop": "steps / raw", "added": "ms per step over raw", "setup": "setup in s"}


def measure(checkout: Path, task: str, epochs: int, runs: Path) -> dict[str, float]:
    """Train one task in a new process of a checkout and return its figures."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(task=TASKS[task], epochs=epochs)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "LITLAB_RUNS_DIR": str(runs)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{task} fails in {checkout}: {done.stderr[-800:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a Markdown table of medians with the ranges of the paired differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="measured epochs of each fit, after one warmup epoch")
    options = parser.parse_args(arguments)
    checkouts = [options.before.resolve(), options.after.resolve()]
    print("| task | figure | before | after | after - before (range) |\n|---|---|---|---|---|")
    for task in options.tasks.split(","):
        found: list[list[dict[str, float]]] = [[], []]
        for index in range(options.rounds):
            for which in (0, 1) if index % 2 == 0 else (1, 0):
                with TemporaryDirectory() as runs:
                    found[which].append(measure(checkouts[which], task, options.epochs, Path(runs)))
        for name, unit in UNITS.items():
            before, after = ([figures[name] for figures in arm] for arm in found)
            change = [b - a for a, b in zip(before, after, strict=True)]
            print(
                f"| {task} | {unit} | {statistics.median(before):.3f} | {statistics.median(after):.3f} | "
                f"{statistics.median(change):+.3f} ({min(change):+.3f} to {max(change):+.3f}) |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())

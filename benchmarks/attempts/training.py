"""Complete fits: the function calls of a step, the cost of each option, the images needed for 99% accuracy."""

from __future__ import annotations

import cProfile
import pstats
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Callback

from benchmarks.arms import bare, litlab
from benchmarks.arms.raw import Machine, RawTraining
from benchmarks.arms.work import CNN_MNIST, MLP, SOFTMAX
from benchmarks.attempts.rounds import AttemptOptions
from benchmarks.measure import Spread, ratios
from benchmarks.table import number, spread

# name, overrides
SWITCHES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("as shipped", {}),
    ("logged every 5 steps", {"trainer.log_every_n_steps": 5}),
    ("logged once per epoch", {"trainer.log_every_n_steps": 1000}),
    ("no progress bar", {"trainer.enable_progress_bar": False}),
    ("no checkpoints", {"trainer.enable_checkpointing": False}),
    ("one thread", {"threads": 1}),
    ("plain optimizer, not fused", {"model.optimizer.fused": False}),
    ("16 steps per call", {"steps_per_call": 16}),
)


class Calls(Callback):
    """Callback that counts function calls between two batches of the second epoch."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.profile = first, last, cProfile.Profile()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == self.first:
            self.profile.enable()
        if trainer.current_epoch == 1 and batch_idx == self.last:
            self.profile.disable()

    def by_function(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Return calls and milliseconds per step by file and function; C functions have no file."""
        found: dict[tuple[str, str], tuple[float, float]] = {}
        steps = self.last - self.first
        for (path, _, name), (_, calls, own, _, _) in pstats.Stats(self.profile).stats.items():  # type: ignore[attr-defined]
            key = ("/".join(path.split("/")[-2:]), name)
            before = found.get(key, (0.0, 0.0))
            found[key] = (before[0] + calls / steps, before[1] + 1000 * own / steps)
        return found


def calls(options: AttemptOptions) -> None:
    """C3 to C5: function calls and profiled milliseconds per step of litlab and of a bare Trainer."""
    work = SOFTMAX.quick() if options.quick else SOFTMAX
    first, last = (0, 2) if options.quick else (5, 205)
    litlab_calls, bare_calls = Calls(first, last), Calls(first, last)
    torch.set_num_threads(1)
    litlab.train(work, 2, [litlab_calls], {"trainer.log_every_n_steps": 50})
    bare.fit(work, RawTraining(work, 80 if options.quick else 55_000, 2, Machine(fused=True)), 2, [bare_calls])
    torch.set_num_threads(options.threads)
    found, base = litlab_calls.by_function(), bare_calls.by_function()
    for what, one in (("litlab", found), ("a bare Trainer", base)):
        total = [sum(values) for values in zip(*one.values(), strict=True)]
        print(f"| {what} | {total[0]:,.0f} calls | {total[1]:.2f} ms under the profiler |")
    more = {key: (found[key][0] - base.get(key, (0, 0))[0], found[key][1] - base.get(key, (0, 0))[1]) for key in found}
    print("\nlargest additions of litlab:\n")
    for (path, name), (count, own) in sorted(more.items(), key=lambda item: -item[1][1])[:20]:
        print(f"| {path} {name} | {count:.1f} calls | {own:.3f} ms |")


def switches(options: AttemptOptions) -> None:
    """C4: an epoch of litlab divided by an epoch of the raw loop, with one change at a time."""
    for what, work in (("softmax regression, batch 256", SOFTMAX), ("MLP, batch 256", MLP)):
        work = work.quick() if options.quick else work
        for name, overrides in SWITCHES:
            one = litlab.alternate(work, options.rounds, overrides)
            over = spread(vars(ratios(one.epoch, one.raw)))
            steps = number(ratios(one.loop, one.raw).median)
            seconds = spread(vars(Spread.of(one.epoch)), " s")
            print(f"| {what} | {name} | {over} | steps alone {steps} | {seconds} |", flush=True)


def share(options: AttemptOptions) -> None:
    """C8: cnn_mnist_fast on a fraction of the images, one thread, three seeds; accuracy on 5,000 held-out images."""
    work = replace(CNN_MNIST, config="cnn_mnist_fast", batch_size=256)
    work = work.quick() if options.quick else work
    torch.set_num_threads(1)
    for fraction in (1.0, 0.8, 0.7, 0.6, 0.5):
        seconds, accuracies = [], []
        for seed in range(1 if options.quick else 3):
            took, reached, _ = litlab.end_to_end(replace(work, fraction=fraction, seed=seed), 1)
            seconds.append(took)
            accuracies.append(100 * reached)
        shown = spread(vars(Spread.of(seconds)), " s")
        print(f"| {fraction:.0%} of the images | {shown} | {spread(vars(Spread.of(accuracies)), '%')} |", flush=True)
    torch.set_num_threads(options.threads)

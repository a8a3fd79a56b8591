"""Whole trainings: what a Trainer's step is made of, what each switch costs, how many images 99 % takes."""

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
from benchmarks.attempts.rounds import Asked
from benchmarks.measure import Spread, ratios
from benchmarks.table import number, spread

# what, overrides
SWITCHES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("as shipped", {}),
    ("logged every 5 steps", {"trainer.log_every_n_steps": 5}),
    ("logged once an epoch", {"trainer.log_every_n_steps": 1000}),
    ("no progress bar", {"trainer.enable_progress_bar": False}),
    ("no checkpoints", {"trainer.enable_checkpointing": False}),
    ("one thread", {"threads": 1}),
    ("plain optimizer, not fused", {"model.optimizer.fused": False}),
    ("16 steps in a call", {"steps_per_call": 16}),
)


class Calls(Callback):
    """Counts function calls between two batches of the second epoch."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.profile = first, last, cProfile.Profile()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == self.first:
            self.profile.enable()
        if trainer.current_epoch == 1 and batch_idx == self.last:
            self.profile.disable()

    def by_function(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Calls and milliseconds a step, by file and function; C functions have no file."""
        found: dict[tuple[str, str], tuple[float, float]] = {}
        steps = self.last - self.first
        for (path, _, name), (_, calls, own, _, _) in pstats.Stats(self.profile).stats.items():  # type: ignore[attr-defined]
            key = ("/".join(path.split("/")[-2:]), name)
            before = found.get(key, (0.0, 0.0))
            found[key] = (before[0] + calls / steps, before[1] + 1000 * own / steps)
        return found


def calls(asked: Asked) -> None:
    """C3 to C5: function calls and profiled milliseconds of one step, litlab's and a bare Trainer's."""
    work = SOFTMAX.quick() if asked.quick else SOFTMAX
    first, last = (0, 2) if asked.quick else (5, 205)
    ours, theirs = Calls(first, last), Calls(first, last)
    torch.set_num_threads(1)
    litlab.train(work, 2, [ours], {"trainer.log_every_n_steps": 50})
    bare.fit(work, RawTraining(work, 80 if asked.quick else 55_000, 2, Machine(fused=True)), 2, [theirs])
    torch.set_num_threads(asked.threads)
    found, base = ours.by_function(), theirs.by_function()
    for what, one in (("litlab", found), ("a bare Trainer", base)):
        total = [sum(values) for values in zip(*one.values(), strict=True)]
        print(f"| {what} | {total[0]:,.0f} calls | {total[1]:.2f} ms under the profiler |")
    more = {key: (found[key][0] - base.get(key, (0, 0))[0], found[key][1] - base.get(key, (0, 0))[1]) for key in found}
    print("\nmost of what litlab adds:\n")
    for (path, name), (count, own) in sorted(more.items(), key=lambda item: -item[1][1])[:20]:
        print(f"| {path} {name} | {count:.1f} calls | {own:.3f} ms |")


def switches(asked: Asked) -> None:
    """C4: an epoch of litlab over an epoch of the raw loop, with one thing changed at a time."""
    for what, work in (("softmax regression, batch 256", SOFTMAX), ("MLP, batch 256", MLP)):
        work = work.quick() if asked.quick else work
        for name, overrides in SWITCHES:
            one = litlab.alternate(work, asked.rounds, overrides)
            over = spread(vars(ratios(one.epoch, one.raw)))
            steps = number(ratios(one.loop, one.raw).median)
            seconds = spread(vars(Spread.of(one.epoch)), " s")
            print(f"| {what} | {name} | {over} | steps alone {steps} | {seconds} |", flush=True)


def share(asked: Asked) -> None:
    """C8: cnn_mnist_fast on a part of the training images, one thread; accuracy on the 5,000 held out, three seeds."""
    work = replace(CNN_MNIST, config="cnn_mnist_fast", batch_size=256)
    work = work.quick() if asked.quick else work
    torch.set_num_threads(1)
    for part in (1.0, 0.8, 0.7, 0.6, 0.5):
        seconds, accuracies = [], []
        for seed in range(1 if asked.quick else 3):
            took, reached, _ = litlab.end_to_end(replace(work, fraction=part, seed=seed), 1)
            seconds.append(took)
            accuracies.append(100 * reached)
        shown = spread(vars(Spread.of(seconds)), " s")
        print(f"| {part:.0%} of the images | {shown} | {spread(vars(Spread.of(accuracies)), ' %')} |", flush=True)
    torch.set_num_threads(asked.threads)

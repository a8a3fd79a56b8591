"""litlab as a user runs it: a config, a few overrides, default callbacks and logging; timed by a callback."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

import callbacks as shown
from benchmarks.arms.bare import EndToEnd
from benchmarks.arms.raw import Machine, RawTraining
from benchmarks.arms.turns import Turns
from benchmarks.arms.work import Work
from callbacks import Activations, ClassificationEvidence, Embeddings, FeatureMaps, Gradients, NoStepHooks, Weights
from experiments import fit
from experiments.loaded_run import LoadedRun
from experiments.options.names import find_config

MakeRaw = Callable[[Work, int, int, Machine], RawTraining]


@dataclass
class Alternated:
    """Seconds of every epoch but the first, one number a pair."""

    raw: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)  # litlab, from the epoch's start to the end of its last batch
    epoch: list[float] = field(default_factory=list)  # litlab, until the next one starts, the validation left out
    steps: int = 0  # optimizer steps in an epoch
    machine: Machine = field(default_factory=Machine)
    reached: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)  # litlab's metrics of the last epoch


class Alternate(NoStepHooks, Callback):
    """Within each of litlab's epochs the raw loop trains one of its own, a few steps at a time.

    Precision, layout, threads and optimizer kernels are those that litlab chose, or `raw_machine`'s. litlab's random
    numbers are as they would be without it.
    """

    def __init__(self, work: Work, make_raw: MakeRaw = RawTraining, raw_machine: Machine | None = None) -> None:
        self.work, self.make_raw, self.raw_machine = work, make_raw, raw_machine
        self.found = Alternated()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        layout = bool(getattr(pl_module, "channels_last", False))
        fused = bool(trainer.optimizers[0].defaults.get("fused"))
        self.found.machine = Machine(pl_module.device, str(trainer.precision), layout, torch.get_num_threads(), fused)
        samples = int(trainer.datamodule.split_sizes()["train"])  # type: ignore[attr-defined]
        with torch.random.fork_rng():
            torch.manual_seed(self.work.seed)
            machine = self.raw_machine or self.found.machine
            raw = self.make_raw(self.work, samples, int(trainer.max_epochs or 1), machine)
        self.found.steps = len(raw.batches)
        self.turns = Turns(raw, int(getattr(pl_module, "steps_per_call", 1)))
        shapes = sorted(tuple(p.shape) for p in raw.net.parameters())
        if shapes != sorted(tuple(p.shape) for p in pl_module.parameters()):
            raise AssertionError(f"{self.work.config}: the raw arm's network is not litlab's")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.turns.start_epoch()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.turns.after_call(batch_idx)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.turns.end_loop()
            self.turns.pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.turns.resume()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.turns.end_epoch()
        self.turns.without_the_first()
        self.found.raw, self.found.loop, self.found.epoch = self.turns.raw, self.turns.loop, self.turns.epoch
        self.found.reached["raw"] = self.turns.training.accuracy()


def train(
    work: Work,
    epochs: int,
    callbacks: Iterable[Callback] = (),
    overrides: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> LoadedRun:
    """`litlab fit CONFIG` for these epochs; what it prints is dropped.

    litlab chooses the threads itself, unless fewer than the cores were asked for.
    """
    threads = torch.get_num_threads()
    asked = {"threads": threads} if threads != os.cpu_count() else {}
    try:
        return _train(work, epochs, callbacks, {**work.words(), **asked, **(overrides or {})}, device)
    finally:
        torch.set_num_threads(threads)


def _train(
    work: Work, epochs: int, callbacks: Iterable[Callback], overrides: Mapping[str, Any], device: str
) -> LoadedRun:
    with redirect_stdout(io.StringIO()):
        return fit(
            work.config,
            overrides=overrides,
            seed=work.seed,
            max_epochs=epochs,
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            callbacks=list(callbacks),
        )


def alternate(
    work: Work,
    pairs: int,
    overrides: Mapping[str, Any] | None = None,
    device: str = "cpu",
    make_raw: MakeRaw = RawTraining,
    raw_machine: Machine | None = None,
) -> Alternated:
    """`pairs` epochs of the raw loop and of litlab taking turns, after one of each to warm up."""
    timer = Alternate(work, make_raw, raw_machine)
    run = train(work, pairs + 1, [timer], overrides, device)
    timer.found.last = last_metrics(run)
    timer.found.reached["litlab"] = timer.found.last["val/acc"]
    return timer.found


def end_to_end(
    work: Work,
    epochs: int,
    device: str = "cpu",
    callbacks: Iterable[Callback] = (),
    overrides: Mapping[str, Any] | None = None,
) -> tuple[float, float, str]:
    """Seconds of a whole fit, its validation accuracy, and what was chosen for the machine.

    The config's own callbacks, its dashboards, are left out; `callbacks` are there instead.
    """
    timer = EndToEnd()
    run = train(work, epochs, [*callbacks, timer], overrides, device)
    return timer.seconds, last_metrics(run)["val/acc"], str(run.environment["chosen"]["precision"])


def dashboards(config: str, every: bool = False) -> list[Callback]:
    """The callbacks that a config ships with, or all that show something of a classifier, at their closest look."""
    if every:
        gradients, weights = Gradients(every_n_steps=10), Weights(every_n_steps=10)
        return [FeatureMaps(images=(0, 1, 2, 3), gradients=True), gradients, weights, Activations(),
                ClassificationEvidence(images=24), Embeddings(samples=2000)]  # fmt: skip
    document = yaml.safe_load(find_config(config).read_text(encoding="utf-8"))
    entries = document["trainer"].get("callbacks") or []
    return [getattr(shown, entry["class_path"])(**entry.get("init_args", {})) for entry in entries]


def last_metrics(run: LoadedRun) -> dict[str, float]:
    """Each metric of a run at its last writing."""
    found: dict[str, float] = {}
    for row in run.metrics:
        found.update(row)
    return found

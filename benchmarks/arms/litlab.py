"""litlab as a user runs it, with a config, overrides, default callbacks and logging; a callback measures the time."""

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

import callbacks as litlab_callbacks
from benchmarks.arms.bare import EndToEnd
from benchmarks.arms.raw import Machine, RawTraining
from benchmarks.arms.turns import Turns
from benchmarks.arms.work import Work
from callbacks import Activations, ClassificationEvidence, Embeddings, FeatureMaps, Gradients, NoStepHooks, Weights
from experiments import fit
from experiments.loaded_run import LoadedRun
from experiments.options.catalog import find_config

MakeRaw = Callable[[Work, int, int, Machine], RawTraining]


@dataclass
class Alternated:
    """Seconds of every epoch except the first, one value per pair."""

    raw: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)  # litlab, from the start of the epoch to the end of its last batch
    epoch: list[float] = field(default_factory=list)  # litlab, until the next epoch starts, without validation
    steps: int = 0  # optimizer steps in an epoch
    machine: Machine = field(default_factory=Machine)
    reached: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)  # metrics of litlab's last epoch


class Alternate(NoStepHooks, Callback):
    """Callback that trains one epoch of the raw loop within each epoch of litlab, a few steps at a time.

    The raw loop uses the precision, layout, threads and optimizer kernels that litlab chose, or those of `raw_machine`.
    It does not change litlab's random numbers.
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
            raise AssertionError(f"{self.work.config}: the network of the raw arm differs from litlab's")

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
        self.turns.drop_warmup()
        self.found.raw, self.found.loop, self.found.epoch = self.turns.raw, self.turns.loop, self.turns.epoch
        self.found.reached["raw"] = self.turns.training.accuracy()


def train(
    work: Work,
    epochs: int,
    callbacks: Iterable[Callback] = (),
    overrides: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> LoadedRun:
    """Run `litlab fit CONFIG` for `epochs` epochs without its output.

    litlab chooses the number of threads, unless it was set below the number of cores.
    """
    threads = torch.get_num_threads()
    chosen = {"threads": threads} if threads != os.cpu_count() else {}
    try:
        return _train(work, epochs, callbacks, {**work.as_overrides(), **chosen, **(overrides or {})}, device)
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
    """Train `pairs` epochs of the raw loop and of litlab in turns, after one warmup epoch of each."""
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
    """Return the seconds of a complete fit, its validation accuracy and the chosen precision.

    `callbacks` replace the callbacks of the config, which are its dashboards.
    """
    timer = EndToEnd()
    run = train(work, epochs, [*callbacks, timer], overrides, device)
    return timer.seconds, last_metrics(run)["val/acc"], str(run.environment["chosen"]["precision"])


def dashboards(config: str, every: bool = False) -> list[Callback]:
    """Return the callbacks of a shipped config, or all dashboard callbacks for classifiers in full detail."""
    if every:
        gradients, weights = Gradients(every_n_steps=10), Weights(every_n_steps=10)
        return [FeatureMaps(images=(0, 1, 2, 3), gradients=True), gradients, weights, Activations(),
                ClassificationEvidence(images=24), Embeddings(samples=2000)]  # fmt: skip
    document = yaml.safe_load(find_config(config).read_text(encoding="utf-8"))
    entries = document["trainer"].get("callbacks") or []
    return [getattr(litlab_callbacks, entry["class_path"])(**entry.get("init_args", {})) for entry in entries]


def last_metrics(run: LoadedRun) -> dict[str, float]:
    """Return the last value of each metric of a run."""
    found: dict[str, float] = {}
    for row in run.metrics:
        found.update(row)
    return found

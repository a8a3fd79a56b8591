"""A bare Lightning Trainer with all optional features disabled and without logging."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.arms.raw import Machine, RawTraining, clock
from benchmarks.arms.turns import Turns
from benchmarks.arms.work import Work


class InTurns(Callback):
    """Callback that alternates a Trainer without validation with the raw loop. Non-callable hooks cost no time."""

    on_train_batch_start: Any = None
    on_before_zero_grad: Any = None
    on_before_backward: Any = None
    on_after_backward: Any = None
    on_before_optimizer_step: Any = None

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.turns.start_epoch()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.turns.after_call(batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.turns.end_loop()


class EndToEnd(Callback):
    """Seconds of a complete fit from setup to teardown, with validation, logging and checkpoints."""

    def __init__(self) -> None:
        self.seconds = self._start = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._start = clock(pl_module.device) if stage == "fit" else self._start

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self.seconds = clock(pl_module.device) - self._start


class Bare(LightningModule):
    """The network and optimizer of the raw arm, trained by Lightning."""

    def __init__(self, training: RawTraining) -> None:
        super().__init__()
        self.net: nn.Module = training.net
        self.training_of: dict[str, RawTraining] = {
            "raw": training
        }  # in a dict, so that it does not become a submodule

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> Any:
        raw = self.training_of["raw"]
        return {"optimizer": raw.optimizer, "lr_scheduler": {"scheduler": raw.scheduler, "interval": "step"}}


def fit(work: Work, own: RawTraining, epochs: int, callbacks: Sequence[Callback] = ()) -> None:
    """Train the network of `own` on its batches."""
    machine, before = own.machine, torch.get_num_threads()
    torch.set_num_threads(machine.threads)
    trainer = Trainer(
        accelerator="gpu" if machine.device.type == "cuda" else "cpu",
        devices=1,
        precision=machine.precision,  # type: ignore[arg-type]
        max_epochs=epochs,
        gradient_clip_val=work.clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    searched = {} if torch.cuda.is_available() else {"CUDA_VISIBLE_DEVICES": ""}  # like litlab, see experiments/machine
    with torch.random.fork_rng(), patch.dict(os.environ, searched):
        trainer.fit(Bare(own), own.batches)
    torch.set_num_threads(before)


def alternate(work: Work, samples: int, pairs: int, machine: Machine) -> Turns:
    """Train `pairs` epochs of the raw loop and of the Trainer in turns, after one warmup epoch of each."""
    raw, own = (RawTraining(work, samples, pairs + 1, machine) for _ in range(2))
    turns = Turns(raw)
    fit(work, own, pairs + 1, [InTurns(turns)])
    turns.drop_warmup()
    return turns

"""A bare Lightning Trainer: everything that can be switched off is off, nothing is logged."""

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
    """Epochs of a Trainer without validation, in turns with the raw loop. Hooks that are no functions cost nothing."""

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
    """Seconds of a whole fit, from its set-up to its tear-down: epochs, validation, logging, checkpoints."""

    def __init__(self) -> None:
        self.seconds = self._begun = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._begun = clock(pl_module.device) if stage == "fit" else self._begun

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self.seconds = clock(pl_module.device) - self._begun


class Bare(LightningModule):
    """The raw arm's network and optimizer, stepped by Lightning."""

    def __init__(self, training: RawTraining) -> None:
        super().__init__()
        self.net: nn.Module = training.net
        self.training_of: dict[str, RawTraining] = {"raw": training}  # in a dict, so that it is no submodule

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> Any:
        raw = self.training_of["raw"]
        return {"optimizer": raw.optimizer, "lr_scheduler": {"scheduler": raw.scheduler, "interval": "step"}}


def fit(work: Work, own: RawTraining, epochs: int, callbacks: Sequence[Callback] = ()) -> None:
    """Train `own`'s network on its batches."""
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
    searched = {} if torch.cuda.is_available() else {"CUDA_VISIBLE_DEVICES": ""}  # as litlab has it, see machine.py
    with torch.random.fork_rng(), patch.dict(os.environ, searched):
        trainer.fit(Bare(own), own.batches)
    torch.set_num_threads(before)


def alternate(work: Work, samples: int, pairs: int, machine: Machine) -> Turns:
    """`pairs` epochs of the raw loop and of the Trainer taking turns, after one of each to warm up."""
    raw, own = (RawTraining(work, samples, pairs + 1, machine) for _ in range(2))
    turns = Turns(raw)
    fit(work, own, pairs + 1, [InTurns(turns)])
    turns.without_the_first()
    return turns

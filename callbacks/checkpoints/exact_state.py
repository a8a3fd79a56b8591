"""What a checkpoint needs beside weights and optimizer for a run to go on as if it had never stopped."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import from_all

KEY, CONFIG = "exact_state", "config"


class ExactState(NoStepHooks, Callback):
    """Adds to every checkpoint, for each process its own: random states, the running epoch's figures, due schedules.

    | in `exact_state` | what                                            | given back                   |
    |------------------|-------------------------------------------------|------------------------------|
    | random           | generators of Python, NumPy, torch and its GPUs | right before the first batch |
    | epoch            | `epoch_state()` of the module, within an epoch  | before the first epoch       |
    | plateau          | metrics that `plateau` schedules still wait for | before the first epoch       |

    Beside it stands `config`, the settings that the state was trained with. Lightning itself keeps weights, optimizers,
    schedules, loss scale, loops, the loader's place and the other callbacks' states. First in the callback list.
    """

    def __init__(self, config: str = "") -> None:
        self._config = config
        self._saved: dict[str, Any] | None = None
        self._waiting: dict[int, int] = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        own: dict[str, Any] = {"random": current_states()}
        state: Any = getattr(pl_module, "epoch_state", None)
        if state is not None and not trainer.is_last_batch:
            own["epoch"] = state()
        if trainer.is_last_batch:
            logged = trainer.callback_metrics
            own["plateau"] = {i: float(logged[name]) for i, name in _due(trainer).items() if name in logged}
        checkpoint[KEY] = from_all(trainer, own)
        checkpoint[CONFIG] = self._config

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        every = checkpoint.get(KEY)
        if every is None:
            return
        if len(every) != trainer.world_size:
            rank_zero_warn(
                f"The checkpoint is of {len(every)} processes, this run has {trainer.world_size}: it goes on with "
                "other random numbers than an unbroken run would have drawn."
            )
            return
        self._saved = every[trainer.global_rank]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._saved is None:
            return
        load: Any = getattr(pl_module, "load_epoch_state", None)
        if load is not None and "epoch" in self._saved:
            load(move_data_to_device(self._saved["epoch"], pl_module.device))
        for index, value in self._saved.get("plateau", {}).items():
            trainer.lr_scheduler_configs[index].scheduler.step(value)
        self.on_train_batch_start = self._restore_random  # Lightning calls it at each step while it is there

    # Lightning leaves `plateau` schedules out of the first epoch's end after a restart, and saves before it steps them.

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._waiting = {index: _steps_of(trainer, index) for index in _due(trainer)}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for index, steps in self._waiting.items():
            config = trainer.lr_scheduler_configs[index]
            if _steps_of(trainer, index) == steps and config.monitor in trainer.callback_metrics:
                config.scheduler.step(float(trainer.callback_metrics[config.monitor]))  # type: ignore[arg-type]
        self._waiting = {}

    def _restore_random(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._saved is not None:
            set_states(self._saved["random"])
        self._saved = self.on_train_batch_start = None


def _due(trainer: Trainer) -> dict[int, str]:
    """Places of the schedules that go by a metric and step at the end of the present epoch, and the metric's name."""
    return {
        index: str(config.monitor)
        for index, config in enumerate(trainer.lr_scheduler_configs)
        if config.reduce_on_plateau
        and config.interval == "epoch"
        and trainer.is_last_batch
        and (trainer.current_epoch + 1) % config.frequency == 0
    }


def _steps_of(trainer: Trainer, index: int) -> int:
    return int(trainer.lr_scheduler_configs[index].scheduler.last_epoch)


def current_states() -> dict[str, Any]:
    """All generators' states as plain data."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_states(states: dict[str, Any]) -> None:
    """Set all generators; those of GPUs where there are as many."""
    version, values, gauss = states["python"]
    random.setstate((version, tuple(values), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])

"""Callback that saves the states which Lightning's checkpoints lack for an exact resume."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import gather_objects

KEY, CONFIG, DATA = "exact_state", "config", "data_properties"


class ExactState(NoStepHooks, Callback):
    """Random states, metrics of the current epoch and pending scheduler steps of each process, in every checkpoint.

    | in `exact_state` | what                                                     | restored                    |
    |------------------|----------------------------------------------------------|-----------------------------|
    | random           | random states of Python, NumPy, torch and its GPUs       | just before the first batch |
    | epoch            | `epoch_state()` of the module, if saved within an epoch  | before the first epoch      |
    | plateau          | metrics for the next step of the `plateau` schedulers    | before the first epoch      |

    The key `config` contains the run's config, and `data_properties` those of the data that the weights depend on.
    Lightning saves weights, optimizers, schedulers, loss scale, loops, the
    position in the dataloader and the states of other callbacks. `ExactState` must be first in the callback list.
    """

    def __init__(self, config: str = "") -> None:
        self.config = config
        self._saved: dict[str, Any] | None = None
        self._steps_before: dict[int, int] = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        states: dict[str, Any] = {"random": random_states()}
        epoch_state: Any = getattr(pl_module, "epoch_state", None)
        if epoch_state is not None and not trainer.is_last_batch:
            states["epoch"] = epoch_state()
        if trainer.is_last_batch:
            logged, due = trainer.callback_metrics, _due_schedulers(trainer)
            states["plateau"] = {index: float(logged[name]) for index, name in due.items() if name in logged}
        checkpoint[KEY] = gather_objects(trainer, states)
        checkpoint[CONFIG] = self.config
        properties: Any = getattr(getattr(trainer, "datamodule", None), "model_properties", dict)
        checkpoint[DATA] = properties()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        states = checkpoint.get(KEY)
        if states is None:
            return
        if len(states) != trainer.world_size:
            rank_zero_warn(
                f"The checkpoint was saved by {len(states)} processes and this run has {trainer.world_size}, so its "
                "random numbers differ from an uninterrupted run. Use as many processes as before for an exact resume."
            )
            return
        self._saved = states[trainer.global_rank]
        check_random_states(self._saved)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._saved is None:
            return
        load: Any = getattr(pl_module, "load_epoch_state", None)
        if load is not None and "epoch" in self._saved:
            load(move_data_to_device(self._saved["epoch"], pl_module.device))
        for index, value in self._saved.get("plateau", {}).items():
            trainer.lr_scheduler_configs[index].scheduler.step(value)
        self.set_step_hook("on_train_batch_start", self._restore_random)

    # After a resume, Lightning does not step `plateau` schedulers at the end of the first epoch. It saves checkpoints
    # before it steps them.

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._steps_before = {index: _steps_taken(trainer, index) for index in _due_schedulers(trainer)}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for index, steps in self._steps_before.items():
            config = trainer.lr_scheduler_configs[index]
            if _steps_taken(trainer, index) == steps and config.monitor in trainer.callback_metrics:
                config.scheduler.step(float(trainer.callback_metrics[config.monitor]))  # type: ignore[arg-type]
        self._steps_before = {}

    def _restore_random(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._saved is not None:
            set_random_states(self._saved["random"])
        self._saved = None
        self.set_step_hook("on_train_batch_start", None)


def _due_schedulers(trainer: Trainer) -> dict[int, str]:
    """Return index and metric of the `plateau` schedulers that Lightning steps at the end of this epoch."""
    return {
        index: str(config.monitor)
        for index, config in enumerate(trainer.lr_scheduler_configs)
        if config.reduce_on_plateau
        and config.interval == "epoch"
        and trainer.is_last_batch
        and (trainer.current_epoch + 1) % config.frequency == 0
    }


def _steps_taken(trainer: Trainer, index: int) -> int:
    return int(trainer.lr_scheduler_configs[index].scheduler.last_epoch)


def random_states() -> dict[str, Any]:
    """Return the states of all random generators in types that `torch.load` accepts with `weights_only=True`."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def check_random_states(saved: Any) -> None:
    """Raise an error if the random states in a checkpoint are incomplete or corrupted."""
    try:
        states = saved["random"]
        version, values, gauss = states["python"]
        random.Random().setstate((version, tuple(values), gauss))
        name, keys, *rest = states["numpy"]
        np.random.RandomState().set_state((name, np.array(keys, dtype=np.uint32), *rest))
        torch.Generator().set_state(states["torch"].cpu())
        for state in states["cuda"]:
            state.cpu()
    except Exception as error:  # the generators raise many types
        raise MisconfigurationException(
            f"checkpoint: its `{KEY}` has no complete `random` ({type(error).__name__}: {error}), so the run cannot "
            "continue exactly. Use another checkpoint."
        ) from error


def set_random_states(states: dict[str, Any]) -> None:
    """Set the states of all random generators; those of GPUs only if the number of GPUs is the same."""
    version, values, gauss = states["python"]
    random.setstate((version, tuple(values), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])

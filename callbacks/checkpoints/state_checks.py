"""Callback that checks the states of optimizers and loops in a checkpoint before they count."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer, __version__
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from callbacks.checkpoints.optimizer_state import check_state, parameters_of
from callbacks.step_hooks import NoStepHooks

KEY = "optimizer_parameters"


class StateChecks(NoStepHooks, Callback):
    """Checks of the states in a checkpoint before torch and Lightning load them.

    | checked before a resume | against                                   |
    |-------------------------|-------------------------------------------|
    | positions in the loops  | the counters of Lightning's loops         |
    | states of optimizers    | names, shapes and types of the parameters |

    The key `optimizer_parameters` of a checkpoint contains names and shapes of the parameters of each optimizer.
    """

    def __init__(self) -> None:
        self._states: int | None = None  # the number of optimizers in the loaded checkpoint
        self._parameters: Any = None  # and their parameters, if it contains them
        self._handles: list[RemovableHandle] = []

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = [parameters_of(optimizer, pl_module) for optimizer in trainer.optimizers]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        states, self._parameters = checkpoint.get("optimizer_states"), checkpoint.get(KEY)
        self._states = None if states is None else len(states)
        if checkpoint.get("pytorch-lightning_version") != __version__:
            return  # it may have other counters
        loops = checkpoint.get("loops", {}).get("fit_loop")
        if missing := _missing(trainer.fit_loop.state_dict(), loops, "loops.fit_loop"):
            raise MisconfigurationException(
                f"checkpoint: its `{missing}` is missing, so training cannot continue from it. Use another checkpoint."
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._states is None:
            return
        if self._states != len(trainer.optimizers):
            raise MisconfigurationException(
                f"checkpoint: its `optimizer_states` are {self._states}, and the model has {len(trainer.optimizers)} "
                "optimizers. Use the model that the checkpoint was trained with, or start a new run."
            )
        # Callbacks such as BackboneFinetuning may still change the parameter groups, so check when torch loads them.
        for index, optimizer in enumerate(trainer.optimizers):
            check = partial(self._check, pl_module, index)
            self._handles.append(optimizer.register_load_state_dict_pre_hook(check))

    def _check(self, module: LightningModule, index: int, optimizer: Optimizer, state: dict[str, Any]) -> None:
        there = self._parameters
        known = there[index] if isinstance(there, list) and len(there) > index else None
        check_state(optimizer, state, known, parameters_of(optimizer, module), f"optimizer_states[{index}]")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for handle in self._handles:
            handle.remove()
        self._states, self._handles = None, []


def _missing(ours: Mapping[str, Any], theirs: Any, name: str) -> str:
    """Return the dotted name of the first counter of Lightning's loops that a checkpoint does not have, or ""."""
    if not isinstance(theirs, Mapping):
        return name
    for key, value in ours.items():
        if isinstance(value, Mapping) and value and (found := _missing(value, theirs.get(key), f"{name}.{key}")):
            return found
        if isinstance(value, (int, bool)) and not isinstance(theirs.get(key), int):
            return f"{name}.{key}"
    return ""

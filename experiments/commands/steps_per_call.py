"""Two ways of running that are asked for, never chosen: the network compiled, several optimizer steps in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import LitDataModule
from experiments.machine.hardware import processes, uses_lbfgs
from lit_models import LitTask


def several_steps(steps: int, model: LightningModule, data: LightningDataModule, options: Mapping[str, Any]) -> None:
    """Set the mode of several optimizer steps per call of `training_step`, or say why it cannot be."""
    if steps == 1:
        if getattr(model, "steps_per_call", 1) != 1:  # left over from an earlier fit of the same objects
            model.run_several_steps(1)  # type: ignore[operator]
            data.batches_per_call = 1  # type: ignore[attr-defined]
        return
    problem = _problem(model, data, options)
    if problem is not None:
        raise MisconfigurationException(f"steps_per_call: {steps} is not possible {problem} Leave it out.")
    model.run_several_steps(steps)  # type: ignore[operator]
    data.batches_per_call = steps  # type: ignore[attr-defined]


def _problem(model: LightningModule, data: LightningDataModule, options: Mapping[str, Any]) -> str | None:
    if not isinstance(model, LitTask):
        return f"with {type(model).__name__}, which is no LitTask and steps by its own rules."
    if not isinstance(data, LitDataModule):
        return f"with {type(data).__name__}, which is no LitDataModule and gives one batch at a time."
    if uses_lbfgs(model):
        return "with LBFGS, which evaluates each batch many times."
    if options.get("gradient_clip_val"):
        return "with gradient clipping (trainer.gradient_clip_val), which looks at each step."
    if (options.get("accumulate_grad_batches") or 1) > 1:
        return "with accumulation (trainer.accumulate_grad_batches), which makes one step of several batches."
    if processes(options) > 1 or (options.get("num_nodes") or 1) > 1:
        return "on several devices, which exchange gradients at each step."
    return None

"""Two ways of running that are asked for, never chosen: the network compiled, several optimizer steps in one call."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import NoStepHooks
from datamodules import LitDataModule
from experiments.machine_facts import processes, uses_lbfgs
from lit_models import LitTask

_COMPILERS = ("c++", "g++", "clang++", "cl")


class CompiledNetwork(NoStepHooks, Callback):
    """Compiles the network in place, so that names in checkpoints stay as they are.

    It does so when training starts: the table of layers and the graph are taken before, from the network as written.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            check_compiler(on_gpu=pl_module.device.type == "cuda")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        getattr(pl_module, "net", pl_module).compile()


def check_compiler(on_gpu: bool = False) -> None:
    """Refuse `compile` where torch would find no compiler, in words instead of in its traceback."""
    named = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ([named] if named else _COMPILERS)):
        looked = f"CXX={named}" if named else ", ".join(_COMPILERS)
        raise MisconfigurationException(
            f"compile: no C++ compiler is there (looked for {looked}). Install one, or leave out --compile."
        )
    if on_gpu and find_spec("triton") is None:
        raise MisconfigurationException(
            "compile: GPUs need the package triton, which is not installed. Install it, or leave out --compile."
        )


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

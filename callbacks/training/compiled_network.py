"""Callback that compiles the network with torch.compile."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks.step_hooks import NoStepHooks

_COMPILERS = ("c++", "g++", "clang++", "cl")


class CompiledNetwork(NoStepHooks, Callback):
    """Compiles the network in place when training starts, which keeps the names in checkpoints.

    The model table and the model graph are made before that, from the original network.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            check_compiler(on_gpu=pl_module.device.type == "cuda")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        getattr(pl_module, "net", pl_module).compile()


def check_compiler(on_gpu: bool = False) -> None:
    """Raise MisconfigurationException if torch.compile would not find a compiler, or on a GPU no triton."""
    named = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ([named] if named else _COMPILERS)):
        looked = f"CXX={named}" if named else ", ".join(_COMPILERS)
        raise MisconfigurationException(
            f"compile: no C++ compiler found (tried {looked}). Install one, or remove --compile."
        )
    if on_gpu and find_spec("triton") is None:
        raise MisconfigurationException(
            "compile: GPUs need the package triton, which is not installed. Install it, or remove --compile."
        )

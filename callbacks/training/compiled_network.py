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
    """Compilation of the network in place when training starts; the names in checkpoints do not change.

    The model table and the model graph show the original network, since they are created earlier.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            check_compiler(on_gpu=pl_module.device.type == "cuda")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        getattr(pl_module, "net", pl_module).compile()


def check_compiler(on_gpu: bool = False) -> None:
    """Raise an error if torch.compile would not find a C++ compiler, or on a GPU the package triton."""
    chosen = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ([chosen] if chosen else _COMPILERS)):
        tried = f"CXX={chosen}" if chosen else ", ".join(_COMPILERS)
        raise MisconfigurationException(
            f"compile: no C++ compiler found (tried {tried}). Install one, or remove --compile."
        )
    if on_gpu and find_spec("triton") is None:
        raise MisconfigurationException(
            "compile: GPUs need the package triton, which is not installed. Install it, or remove --compile."
        )

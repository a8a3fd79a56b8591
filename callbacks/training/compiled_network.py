"""Compilation of the network by torch.compile."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import NoStepHooks

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

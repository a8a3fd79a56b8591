"""Reading checkpoints: only as plain data (`weights_only=True`), and only into the model they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.run_folder import RunFolder, sha256

_RUNS = "`litlab list runs` shows what there is"
_ANOTHER = f"Take another checkpoint; {_RUNS}."
# What Lightning needs beside the weights to train on.
_TO_TRAIN_ON = ("pytorch-lightning_version", "epoch", "global_step", "loops", "optimizer_states", "lr_schedulers")


@dataclass(frozen=True)
class Weights:
    """A checkpoint file, or None for untrained weights, and the run folder it belongs to, if any."""

    path: Path | None
    folder: RunFolder | None = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """What the file holds; raises in words when it cannot be read safely."""
        return {} if self.path is None else read(self.path)

    @property
    def epoch(self) -> int | None:
        """Number of the epoch that the weights were saved in, counted from 0 as in metrics.csv."""
        return self.content.get("epoch")

    @property
    def epoch_shown(self) -> str:
        """The epoch as people count, from 1, like the progress lines."""
        return "?" if self.epoch is None else str(self.epoch + 1)

    def facts(self) -> dict[str, Any]:
        """What results.json says about the weights."""
        if self.path is None:
            return {"checkpoint": None}
        inside = self.folder is not None and self.path.is_relative_to(self.folder.path)
        name = self.path.relative_to(self.folder.path) if inside and self.folder is not None else self.path
        return {
            "checkpoint": str(name),
            "checkpoint_sha256": sha256(self.path),
            "epoch": self.epoch,
            "step": self.content.get("global_step"),
        }

    def check(self, model: LightningModule) -> None:
        """Refuse weights of another model, naming the first difference."""
        if self.path is None:
            return
        theirs, ours = self.content["state_dict"], model.state_dict()
        missing = [name for name in ours if name not in theirs]
        extra = [name for name in theirs if name not in ours]
        reshaped = [name for name in ours if name in theirs and ours[name].shape != theirs[name].shape]
        if not (missing or extra or reshaped) or not model.strict_loading:
            return
        if reshaped:
            name = reshaped[0]
            difference = f"{name} is {_shape(theirs[name])} there and {_shape(ours[name])} in {type(model).__name__}"
        else:
            difference = f"{(missing or extra)[0]} is {'not in it' if missing else 'only in it'}"
        raise MisconfigurationException(
            f"checkpoint: {self.path} belongs to another model: {difference}. "
            "Leave out the --model options, or give the config that the checkpoint was trained with."
        )

    def check_trainable(self, model: LightningModule) -> None:
        """Refuse a checkpoint that holds weights alone, or the state of another optimizer than the model's."""
        missing = [name for name in _TO_TRAIN_ON if name not in self.content] if self.path is not None else []
        if missing:
            raise MisconfigurationException(
                f"checkpoint: {self.path} holds no {', '.join(missing)}: it can be scored, but training cannot go "
                f"on from it. {_ANOTHER}"
            )
        theirs, ours = _optimizer(self.content.get("hyper_parameters", {})), _optimizer(dict(model.hparams))
        if theirs and ours and theirs != ours:
            raise MisconfigurationException(
                f"checkpoint: {self.path} holds the state of the optimizer {theirs}, which {ours} cannot go on from. "
                f"Give --model.optimizer {theirs}, or another checkpoint."
            )


def _optimizer(hyper_parameters: dict[str, Any]) -> str:
    """The name of the optimizer among a model's settings, if it is there."""
    spec = hyper_parameters.get("optimizer")
    if isinstance(spec, dict):
        spec = spec.get("name") or spec.get("class_path")
    return spec.lower() if isinstance(spec, str) else ""


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a number"


def read(path: Path) -> dict[str, Any]:
    """A checkpoint as plain data, its tensors mapped from the file."""
    if not path.is_file():
        raise MisconfigurationException(f"checkpoint: {path} is not there. Give a file or a run folder; {_RUNS}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError here
        reason = "it needs more than plain data to load, and litlab never runs code from a file"
        if "weights_only" not in str(error).lower() and "unsupported" not in str(error).lower():
            reason = "it is damaged or no checkpoint at all"
        raise MisconfigurationException(f"checkpoint: {path} cannot be loaded: {reason}. {_ANOTHER}") from error
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise MisconfigurationException(
            f"checkpoint: {path} holds no `state_dict` of tensors; it was not written by a fit. {_ANOTHER}"
        )
    found: dict[str, Any] = content
    return found

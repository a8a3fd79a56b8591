"""Reading checkpoints: as plain data only (`weights_only=True`), and only into the model that they belong to."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.messages.formatting import count, one_line, shown
from experiments.runs.folder import RunFolder, file_version, sha256
from experiments.version import CHECKPOINT_FORMAT, VERSION
from lit_models.parts.optimizers import known_optimizer

_TYPES: dict[str, type] = {
    "hyper_parameters": Mapping, "loops": Mapping, "callbacks": Mapping, "optimizer_states": list,
    "lr_schedulers": list, "epoch": int, "global_step": int, "pytorch-lightning_version": str,
}  # fmt: skip
STAMP = "litlab"  # checkpoint key of the version and format that wrote the file
# The keys that Lightning needs to continue training; a file with only the weights lacks some of them.
_TRAINING_KEYS = ("loops", "optimizer_states", "lr_schedulers", "epoch", "global_step", "pytorch-lightning_version")
_RUNS = "`litlab list runs` shows all runs"
_ANOTHER = f"Use another checkpoint; {_RUNS}."


def stamp() -> dict[str, Any]:
    """Return the version and the format that are stored in every checkpoint."""
    return {"version": VERSION, "format": CHECKPOINT_FORMAT}


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint file, or None for untrained weights, and its run folder, if any."""

    path: Path | None
    folder: RunFolder | None = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """The content of the file; raises MisconfigurationException if it cannot be read safely."""
        self._version  # noqa: B018 - must be known before the file is read
        return {} if self.path is None else read(self.path)

    @cached_property
    def _version(self) -> tuple[int, int] | None:
        return None if self.path is None else file_version(self.path)

    def replaced(self) -> bool:
        """Return True if another file has taken the place of the one that was read."""
        return self.path is not None and file_version(self.path) != self._version

    @property
    def epoch(self) -> int | None:
        """The epoch in which the checkpoint was saved, counted from 0 as in metrics.csv."""
        return self.content.get("epoch")

    @property
    def epochs_done(self) -> int:
        """The number of epochs that were complete when the checkpoint was saved."""
        return int(self.content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]) if self.content else 0

    @property
    def epoch_shown(self) -> str:
        """The epoch as text, counted from 1 as in the progress lines."""
        return "?" if self.epoch is None else str(self.epoch + 1)

    @property
    def hyper_parameters(self) -> dict[str, Any]:
        """The hyperparameters of the model that was saved."""
        return dict(self.content.get("hyper_parameters") or {})

    def as_record(self) -> dict[str, Any]:
        """Return the entries of results.json that identify the checkpoint."""
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
        """Raise an error that names the first difference if the weights belong to another model."""
        if self.path is None or not model.strict_loading:
            return
        if difference := _difference(self.content["state_dict"], model.state_dict(), type(model).__name__):
            raise MisconfigurationException(
                f"checkpoint: {self.path} belongs to another model: {difference}. "
                "Remove the --model options, or pass the config that the checkpoint was trained with."
            )

    def check_trainable(self, model: LightningModule) -> None:
        """Raise an error if the checkpoint has only weights, or was trained with another optimizer than the model's."""
        if self.path is None:
            return
        if missing := self._missing_key(model):
            raise MisconfigurationException(
                f"checkpoint: {self.path} has no `{missing}`: it can be tested, but training cannot continue from "
                f"it. {_ANOTHER}"
            )
        optimizers = [
            known_optimizer(values.get("optimizer")) for values in (self.hyper_parameters, dict(model.hparams))
        ]
        theirs, ours = (type(optimizer).__name__ for optimizer in optimizers)
        if None not in optimizers and theirs != ours:
            raise MisconfigurationException(
                f"checkpoint: {self.path} was trained with the optimizer {theirs}, and training cannot continue with "
                f"{ours}. Set --model.optimizer {theirs}, or use another checkpoint."
            )

    def _missing_key(self, model: LightningModule) -> str:
        missing = [name for name in _TRAINING_KEYS if name not in self.content]
        if missing:
            return missing[0]
        if "fit_loop" not in self.content["loops"]:
            return "loops"
        has_optimizer = self.content["optimizer_states"] or not hasattr(model, "optimizer_spec")
        return "" if has_optimizer else "optimizer_states"

    def check_length(self, epochs: int | None) -> None:
        """Raise an error if the checkpoint has already completed all epochs of a run that starts from it."""
        if self.path is not None and epochs is not None and 0 <= epochs <= self.epochs_done:
            raise MisconfigurationException(
                f"checkpoint: {self.path} has completed {count(self.epochs_done, 'epoch')} already, and they count. "
                f"--trainer.max_epochs must be more, got {epochs}."
            )

    def check_start(self, model: LightningModule) -> float | None:
        """Return the learning rate of a run that starts from the checkpoint if it differs from the checkpoint's.

        Raises an error if the model has another learning rate schedule, or another learning rate and a schedule.
        """
        then, now = self.hyper_parameters, dict(model.hparams)
        if self.path is None or "optimizer" not in then or "optimizer" not in now:
            return None
        schedules = [values.get("scheduler") for values in (then, now)]
        if schedules[0] != schedules[1]:
            raise MisconfigurationException(
                f"checkpoint: {self.path} is in the middle of the schedule {schedules[0]}, and model.scheduler is "
                f"{schedules[1]}. A schedule cannot change during training: set the same one."
            )
        optimizers = (known_optimizer(values["optimizer"]) for values in (then, now))
        rates = [float(optimizer.defaults.get("lr", 0)) for optimizer in optimizers if optimizer is not None]
        if len(rates) < 2 or rates[0] == rates[1]:
            return None
        if schedules[0] is not None:
            raise MisconfigurationException(
                f"checkpoint: {self.path} is in the middle of a schedule from the learning rate {rates[0]}, and "
                f"model.optimizer.lr is {rates[1]}, which the schedule would ignore. Remove --model.optimizer.lr."
            )
        return rates[1]


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any], model: str) -> str:
    """Return the first difference between two `state_dict`s as text, or "" if all names and shapes are the same."""
    for name in ours:
        if name in theirs and _shape(ours[name]) != _shape(theirs[name]):
            return f"{name} is {_shape(theirs[name])} there and {_shape(ours[name])} in {model}"
    for name in ours:
        if name not in theirs:
            return f"{name} is missing there"
    return next((f"{name} is only there" for name in theirs if name not in ours), "")


def _shape(value: Any) -> str:
    """Return the shape of a tensor as text, such as "8x64"; the extra state of a module has none."""
    return "x".join(map(str, value.shape)) or "a scalar" if isinstance(value, torch.Tensor) else "not a tensor"


def read(path: Path) -> dict[str, Any]:
    """Return a checkpoint as plain data, with tensors mapped from the file."""
    if path.is_dir():
        raise MisconfigurationException(
            f"checkpoint: {path} is a folder, but not a run folder. Pass a run folder or a file; {_RUNS}."
        )
    if not path.is_file():
        raise MisconfigurationException(f"checkpoint not found: {path}. Pass a file or a run folder; {_RUNS}.")
    try:
        # Only the zip format can be mapped; before 2020, torch used another one.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError here
        raise MisconfigurationException(
            f"checkpoint: {path} cannot be loaded: {_reason(path, error)}. {_ANOTHER}"
        ) from error
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, Mapping) or not any(isinstance(value, torch.Tensor) for value in weights.values()):
        raise MisconfigurationException(
            f"checkpoint: {path} has no `state_dict` of tensors, so it is not a Lightning checkpoint. {_ANOTHER}"
        )
    for name, kind in _TYPES.items():
        if name in content and not isinstance(content[name], kind):
            raise MisconfigurationException(
                f"checkpoint: {path} is corrupted: its `{name}` is {one_line(repr(content[name]), 40)}. {_ANOTHER}"
            )
    _check_format(path, content.get(STAMP) or {})
    found: dict[str, Any] = content
    return found


def _check_format(path: Path, written: Any) -> None:
    known = written if isinstance(written, dict) else {"format": "?"}
    if known.get("format", CHECKPOINT_FORMAT) != CHECKPOINT_FORMAT:
        raise MisconfigurationException(
            f"checkpoint: {path} was written by litlab {known.get('version', '?')} in format {known['format']}, "
            f"and this is litlab {VERSION}, which reads format {CHECKPOINT_FORMAT}. Use the litlab that wrote it."
        )


def _reason(path: Path, error: Exception) -> str:
    """Return why torch did not load the file: loading would run code, or the content is invalid."""
    global_name = re.search(r"GLOBAL ([\w.]+)", str(error))
    if global_name is not None:
        return f"it needs {global_name[1]}, which is not plain data, and litlab never runs code from a file"
    if "TorchScript" in str(error):
        return "it is a TorchScript program, and litlab never runs code from a file"
    with path.open("rb") as file:
        if file.read(1) == b"\x80":  # the first byte of a Python pickle
            return "it is a Python pickle but not a complete checkpoint, and litlab never runs code from a file"
    return "it is corrupted or not a checkpoint"


def started_from(command: str, folder: RunFolder, record: Mapping[str, Any]) -> Path | None:
    """Return the checkpoint that the run was started from with `fit --ckpt_path`, if any.

    Raises an error if that file is missing or has changed since.
    """
    start = record.get("started_from")
    if not start:
        return None
    path = Path(start["checkpoint"])
    if not path.is_file() or sha256(path) != start["sha256"]:
        how = "has changed since" if path.is_file() else "was not found"
        remedy = "Pass the file with --ckpt_path." if command == "rerun" else "Put it back."
        raise MisconfigurationException(
            f"{command}: {shown(folder.path)} was started from {shown(path)}, which {how}. {remedy}"
        )
    return path

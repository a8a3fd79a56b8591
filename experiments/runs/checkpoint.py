"""Reading checkpoints: only as plain data (`weights_only=True`), and only into the model they belong to."""

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

from experiments.messages.text import count, one_line, shown
from experiments.runs.folder import RunFolder, sha256
from experiments.version import CHECKPOINT_FORMAT, VERSION
from lit_models.parts.optimizers import known_optimizer

_KINDS: dict[str, type] = {
    "hyper_parameters": Mapping, "loops": Mapping, "callbacks": Mapping, "optimizer_states": list,
    "lr_schedulers": list, "epoch": int, "global_step": int, "pytorch-lightning_version": str,
}  # fmt: skip
STAMP = "litlab"  # the checkpoint's entry that says which litlab wrote it, in which format
# What Lightning needs to go on with training; a file of weights alone has not all of it.
_STATE = ("loops", "optimizer_states", "lr_schedulers", "epoch", "global_step", "pytorch-lightning_version")


def stamp() -> dict[str, Any]:
    """What every checkpoint says about its writer."""
    return {"version": VERSION, "format": CHECKPOINT_FORMAT}


_RUNS = "`litlab list runs` shows what there is"
_ANOTHER = f"Take another checkpoint; {_RUNS}."


@dataclass(frozen=True)
class Weights:
    """A checkpoint file, or None for untrained weights, and the run folder it belongs to, if any."""

    path: Path | None
    folder: RunFolder | None = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """What the file holds; raises in words when it cannot be read safely."""
        self._file  # noqa: B018 - noted before it is read
        return {} if self.path is None else read(self.path)

    @cached_property
    def _file(self) -> tuple[int, int] | None:
        return None if self.path is None else _identity(self.path)

    def replaced(self) -> bool:
        """Whether the file is another one by now than the one that was read."""
        return self.path is not None and _identity(self.path) != self._file

    @property
    def epoch(self) -> int | None:
        """Number of the epoch that the weights were saved in, counted from 0 as in metrics.csv."""
        return self.content.get("epoch")

    @property
    def epochs_done(self) -> int:
        """Number of epochs that were over when it was saved."""
        return int(self.content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]) if self.content else 0

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
        reshaped = [name for name in ours if name in theirs and _shape(ours[name]) != _shape(theirs[name])]
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
        if self.path is None:
            return
        missing = [name for name in _STATE if name not in self.content]
        if not missing and "fit_loop" not in self.content["loops"]:
            missing = ["loops"]
        if not missing and hasattr(model, "optimizer_spec") and not self.content["optimizer_states"]:
            missing = ["optimizer_states"]
        if missing:
            raise MisconfigurationException(
                f"checkpoint: {self.path} holds no `{missing[0]}`: it can be scored, but training cannot go on from "
                f"it. {_ANOTHER}"
            )
        optimizers = [known_optimizer(settings.get("optimizer")) for settings in (self.settings, dict(model.hparams))]
        theirs, ours = (type(optimizer).__name__ for optimizer in optimizers)
        if None not in optimizers and theirs != ours:
            raise MisconfigurationException(
                f"checkpoint: {self.path} holds the state of the optimizer {theirs}, which {ours} cannot go on from. "
                f"Give --model.optimizer {theirs}, or another checkpoint."
            )

    def check_length(self, epochs: int | None) -> None:
        """Refuse to begin from a checkpoint that has as many epochs as the run is to have."""
        if self.path is not None and epochs is not None and 0 <= epochs <= self.epochs_done:
            raise MisconfigurationException(
                f"checkpoint: {self.path} has {count(self.epochs_done, 'epoch')} already, and they count. "
                f"--trainer.max_epochs must be more, not {epochs}."
            )

    def check_start(self, model: LightningModule) -> float | None:
        """For a new run that begins here: another schedule is refused; another learning rate is given back."""
        then, now = self.settings, dict(model.hparams)
        if self.path is None or "optimizer" not in then or "optimizer" not in now:
            return None
        schedules = [settings.get("scheduler") for settings in (then, now)]
        if schedules[0] != schedules[1]:
            raise MisconfigurationException(
                f"checkpoint: {self.path} is in the middle of the schedule {schedules[0]}, and model.scheduler is "
                f"{schedules[1]}. A schedule cannot be exchanged on the way: give the same one."
            )
        one, other = (known_optimizer(settings["optimizer"]) for settings in (then, now))
        rates = [float(optimizer.defaults.get("lr", 0)) for optimizer in (one, other) if optimizer is not None]
        if len(rates) < 2 or rates[0] == rates[1]:
            return None
        if schedules[0] is not None:
            raise MisconfigurationException(
                f"checkpoint: {self.path} is in the middle of a schedule from the learning rate {rates[0]}, and "
                f"model.optimizer.lr is {rates[1]}, which the schedule would not heed. Leave it out."
            )
        return rates[1]

    @property
    def settings(self) -> dict[str, Any]:
        """The model's settings as the checkpoint holds them."""
        return dict(self.content.get("hyper_parameters") or {})


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _shape(value: Any) -> str:
    """Sizes of a tensor; what is none (the extra state of a module) has no shape to compare."""
    return "x".join(map(str, value.shape)) or "a number" if isinstance(value, torch.Tensor) else "no tensor"


def read(path: Path) -> dict[str, Any]:
    """A checkpoint as plain data, its tensors mapped from the file."""
    if path.is_dir():
        raise MisconfigurationException(
            f"checkpoint: {path} is a folder, but not of a run. Give one, or a file; {_RUNS}."
        )
    if not path.is_file():
        raise MisconfigurationException(f"checkpoint: {path} is not there. Give a file or a run folder; {_RUNS}.")
    try:
        # Only the zip format can be mapped; torch wrote another one until 2020.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError here
        raise MisconfigurationException(
            f"checkpoint: {path} cannot be loaded: {_reason(path, error)}. {_ANOTHER}"
        ) from error
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, Mapping) or not any(isinstance(value, torch.Tensor) for value in weights.values()):
        raise MisconfigurationException(
            f"checkpoint: {path} holds no `state_dict` of tensors; it was not written by a fit. {_ANOTHER}"
        )
    for name, kind in _KINDS.items():
        if name in content and not isinstance(content[name], kind):
            raise MisconfigurationException(
                f"checkpoint: {path} is damaged: its `{name}` is {one_line(repr(content[name]), 40)}. {_ANOTHER}"
            )
    written = content.get(STAMP) or {}
    if not isinstance(written, dict) or written.get("format", CHECKPOINT_FORMAT) != CHECKPOINT_FORMAT:
        raise MisconfigurationException(
            f"checkpoint: {path} was written by litlab {_of(written, 'version')} in format {_of(written, 'format')}, "
            f"and this is litlab {VERSION}, which reads format {CHECKPOINT_FORMAT}. Use the litlab that wrote it."
        )
    found: dict[str, Any] = content
    return found


def _of(written: Any, name: str) -> Any:
    return written.get(name, "?") if isinstance(written, dict) else "?"


def _reason(path: Path, error: Exception) -> str:
    """Why torch did not load the file: it would have to run code, or its bytes are wrong."""
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if asked is not None:
        return f"it asks for {asked[1]}, which is more than plain data, and litlab never runs code from a file"
    if "TorchScript" in str(error):
        return "it holds a program, and litlab never runs code from a file"
    with path.open("rb") as file:
        if file.read(1) == b"\x80":  # as Python's pickles begin
            return "it is a Python pickle but no whole checkpoint, and litlab never runs code from a file"
    return "it is damaged or no checkpoint at all"


def started_from(verb: str, folder: RunFolder, record: Mapping[str, Any]) -> Path | None:
    """The checkpoint that the run was started from by `fit --ckpt_path`, if any, and only the very same file."""
    start = record.get("started_from")
    if not start:
        return None
    if not isinstance(start, Mapping) or not {"checkpoint", "sha256"} <= start.keys():
        raise MisconfigurationException(f"{verb}: `started_from` in {shown(folder.environment)} is damaged. Mend it.")
    path = Path(start["checkpoint"])
    if not path.is_file() or sha256(path) != start["sha256"]:
        how = "has changed since" if path.is_file() else "is not there"
        remedy = "Give the file by --ckpt_path." if verb == "rerun" else "Put it back."
        raise MisconfigurationException(
            f"{verb}: {shown(folder.path)} was started from {shown(path)}, which {how}. {remedy}"
        )
    return path

"""Checkpoint files of a run, and their checks against model and run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks.checkpoints.content_stamp import STAMP
from callbacks.checkpoints.exact_state import DATA, KEY
from experiments.messages.formatting import count, shown
from experiments.runs.checkpoint_content import checkpoint_error, read
from experiments.runs.folder import RunFolder, file_version, read_environment, read_results, sha256
from lit_models.parts.optimizers import known_optimizer

# The keys that Lightning needs to continue training; a file with only the weights does not have all of them.
_TRAINING_KEYS = ("loops", "optimizer_states", "lr_schedulers", "epoch", "global_step", "pytorch-lightning_version")


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint file, or None for untrained weights, and its run folder, if any."""

    path: Path | None
    folder: RunFolder | None = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """The content of the file; raises MisconfigurationException if it cannot be loaded safely."""
        self._version  # noqa: B018 - cached before the file is read
        return {} if self.path is None else read(self.path)

    @cached_property
    def _version(self) -> tuple[int, int] | None:
        return None if self.path is None else file_version(self.path)

    def replaced(self) -> bool:
        """Return True if the file was replaced after it was read."""
        return self.path is not None and file_version(self.path) != self._version

    @property
    def epoch(self) -> int | None:
        """The epoch in which the checkpoint was saved, counted from 0 as in metrics.csv."""
        return self.content.get("epoch")

    @property
    def logged_steps(self) -> int:
        """The number of steps whose metrics are logged when the checkpoint is saved; the next one has this number.

        With several optimizers, it is smaller than the number of optimizer steps.
        """
        if not self.content:
            return 0
        try:
            loop = self.content["loops"]["fit_loop"]
            batches = loop["epoch_loop.batch_progress"]["total"]
            # Lightning counts a step after the hooks of its batch, in which the checkpoint may have been saved.
            within: bool = batches["completed"] != batches["processed"]
            return int(loop["epoch_loop.state_dict"]["_batches_that_stepped"]) + within
        except (KeyError, TypeError):  # Lightning's loops report what is missing
            return int(self.content.get("global_step", 0))

    @property
    def epochs_done(self) -> int:
        """The number of epochs that were complete when the checkpoint was saved."""
        if not self.content:
            return 0
        try:
            return int(self.content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
        except (KeyError, TypeError, ValueError) as error:
            raise checkpoint_error(self.path, "is corrupted: its `loops` do not contain the finished epochs") from error

    @property
    def epoch_shown(self) -> str:
        """The epoch as text, counted from 1 as in the progress lines, or "?" if it is unknown."""
        return "?" if self.epoch is None else str(self.epoch + 1)

    @property
    def hyper_parameters(self) -> dict[str, Any]:
        """The hyperparameters of the model that was saved."""
        return dict(self.content.get("hyper_parameters") or {})

    @property
    def data_properties(self) -> dict[str, Any] | None:
        """The properties of the data that the weights were trained on, empty if litlab 0.1 trained them.

        None without weights and without a run.
        """
        if DATA in self.content:
            return dict(self.content[DATA])
        if self.path is None and self.folder is None:
            return None
        try:
            environment = {} if self.folder is None else read_environment(self.folder.environment)
        except (OSError, ValueError):  # the commands report it
            environment = {}
        return dict((environment.get("data") or {}).get("properties") or {})

    def as_record(self) -> dict[str, Any]:
        """Return the entries of results.json that identify the checkpoint."""
        if self.path is None:
            return {"checkpoint": None}
        folder = None if self.folder is None else self.folder.path
        inside = folder is not None and self.path.is_relative_to(folder)
        return {
            "checkpoint": str(self.path.relative_to(folder) if folder is not None and inside else self.path),
            "checkpoint_sha256": sha256(self.path),
            "epoch": self.epoch,
            "step": self.content.get("global_step"),
        }

    @property
    def note(self) -> str:
        """A line about a best.ckpt that is not the file of results.json although no training followed, else ""."""
        if self.folder is None or self.path != self.folder.best:
            return ""
        fits = [record for record in read_results(self.folder) if record["verb"] == "fit"]
        known = fits[-1].get("checkpoint_sha256") if fits else None
        trained = known is not None and self.content.get("global_step", 0) > fits[-1].get("steps", 0)
        if known is None or trained or sha256(self.path) == known:
            return ""
        return f"note        {self.path.name} is not the file that results.json names: it was replaced or saved again"

    def check(self, model: LightningModule) -> None:
        """Raise an error that names the first difference if the weights do not fit the model."""
        if self.path is None or not model.strict_loading:
            return
        if difference := _difference(self.content["state_dict"], model.state_dict(), type(model).__name__):
            action = "Remove the --model options, or pass the config that the checkpoint was trained with."
            raise checkpoint_error(self.path, f"belongs to another model: {difference}", action)

    def check_trainable(self, model: LightningModule, exactly: bool = False) -> None:
        """Raise an error if the checkpoint has only weights, or is from a run with another optimizer.

        If `exactly`, also raise an error if litlab wrote the checkpoint and the states of random generators are gone.
        """
        if self.path is None:
            return
        if missing := self._missing_key(model):
            problem = f"has no `{missing}`: it can be tested, but training cannot continue from it"
            raise checkpoint_error(self.path, problem)
        if exactly and STAMP in self.content and KEY not in self.content:
            problem = f"has no `{KEY}`: it can be tested, but the run cannot continue exactly"
            raise checkpoint_error(self.path, problem, "Use another copy, or start a new run with `litlab fit`.")
        self.epochs_done  # noqa: B018 - raises an error if the counters are gone
        optimizers = [known_optimizer(values.get("optimizer")) for values in (self.hyper_parameters, model.hparams)]
        theirs, ours = (type(optimizer).__name__ for optimizer in optimizers)
        if None not in optimizers and theirs != ours:
            problem = f"was trained with the optimizer {theirs}, and training cannot continue with {ours}"
            raise checkpoint_error(self.path, problem, f"Set --model.optimizer {theirs}, or use another checkpoint.")

    def _missing_key(self, model: LightningModule) -> str:
        """Return the first key that training needs and the checkpoint does not have, or ""."""
        missing = [name for name in _TRAINING_KEYS if name not in self.content]
        if missing:
            return missing[0]
        if "fit_loop" not in self.content["loops"]:
            return "loops"
        has_optimizer = self.content["optimizer_states"] or not hasattr(model, "optimizer_spec")
        return "" if has_optimizer else "optimizer_states"

    def check_length(self, epochs: int | None) -> None:
        """Raise an error if a run of `epochs` epochs, counted with those of the checkpoint, has none left to train."""
        if self.path is not None and epochs is not None and 0 <= epochs <= self.epochs_done:
            problem = f"has completed {count(self.epochs_done, 'epoch')} already, which --trainer.max_epochs includes"
            action = f"Set --trainer.max_epochs above {self.epochs_done}, got {epochs}."
            raise checkpoint_error(self.path, problem, action)

    def check_start(self, model: LightningModule) -> float | None:
        """Return the learning rate of the model if the checkpoint has another one, else None.

        Raise an error if the learning rate schedules differ, or if the learning rates differ and there is a schedule.
        """
        then, now = self.hyper_parameters, dict(model.hparams)
        if self.path is None or "optimizer" not in then or "optimizer" not in now:
            return None
        schedules = [values.get("scheduler") for values in (then, now)]
        if schedules[0] != schedules[1]:
            problem = f"is in the middle of the schedule {schedules[0]}, and model.scheduler is {schedules[1]}"
            raise checkpoint_error(self.path, problem, "A schedule cannot change during training. Set the same one.")
        optimizers = (known_optimizer(values["optimizer"]) for values in (then, now))
        rates = [float(optimizer.defaults.get("lr", 0)) for optimizer in optimizers if optimizer is not None]
        if len(rates) < 2 or rates[0] == rates[1]:
            return None
        if schedules[0] is not None:
            raise checkpoint_error(
                self.path,
                f"is in the middle of a schedule from the learning rate {rates[0]}, and model.optimizer.lr is "
                f"{rates[1]}, which the schedule would ignore",
                "Remove --model.optimizer.lr.",
            )
        return rates[1]


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any], model: str) -> str:
    """Return the first difference between two `state_dict`s as text, or "" if all names and shapes are equal."""
    for name in ours:
        if name in theirs and _shape(ours[name]) != _shape(theirs[name]):
            return f"{name} is {_shape(theirs[name])} there and {_shape(ours[name])} in {model}"
    for name in ours:
        if name not in theirs:
            return f"{name} is missing there"
    return next((f"{name} is only there" for name in theirs if name not in ours), "")


def _shape(value: Any) -> str:
    """Return shape and kind of a tensor as text, such as "8x64"; the extra state of a module has no shape."""
    if not isinstance(value, torch.Tensor):
        return "not a tensor"
    kind = "" if value.is_floating_point() else " of complex numbers" if value.is_complex() else " of integers"
    return ("x".join(map(str, value.shape)) or "a scalar") + kind


def started_from(command: str, folder: RunFolder, record: Mapping[str, Any]) -> Path | None:
    """Return the checkpoint that the run was started from with `fit --ckpt_path`, or None.

    Raise an error if that file is missing or has changed since then.
    """
    start = record.get("started_from")
    if not start:
        return None
    path = Path(start["checkpoint"])
    if not path.is_file() or sha256(path) != start["sha256"]:
        problem = "has changed since" if path.is_file() else "was not found"
        action = "Pass the file with --ckpt_path." if command == "rerun" else "Put it back."
        raise MisconfigurationException(
            f"{command}: {shown(folder.path)} was started from {shown(path)}, which {problem}. {action}"
        )
    return path

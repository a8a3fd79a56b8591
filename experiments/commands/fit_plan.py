"""Decisions made before a fit: folder, machine, callbacks, Trainer arguments."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from callbacks import ExactState
from callbacks.records.scored_samples import ScoredSamples
from experiments.commands.default_callbacks import AnothersState, fit_callbacks, fit_plugins, loggers, users_callbacks
from experiments.commands.rerun import Origin
from experiments.commands.resume import Changes, Resumed
from experiments.commands.steps_per_call import several_steps
from experiments.machine import choice as machine
from experiments.machine.hardware import processes
from experiments.machine.processes import check_program, hand_on, one_first
from experiments.options.run_options import FitSettings
from experiments.options.trainer_checks import check_interval
from experiments.runs import environment
from experiments.runs.checkpoint import Weights, started_from
from experiments.runs.find import runs_dir
from experiments.runs.folder import RunFolder
from experiments.runs.folder_guard import KeptFolder

_DEFAULT_EPOCHS = 10


@dataclass
class Plan:
    """What `prepare` decided: the settings, the folder (none for a `fast_dev_run`) and arguments for the Trainer."""

    settings: FitSettings
    folder: RunFolder | None
    trainer: dict[str, Any]
    scored: ScoredSamples
    choice: machine.Choice
    resumed: Resumed | None = None
    origin: Origin = field(default_factory=Origin)
    start: Path | None = None  # a checkpoint to begin from
    started: float = field(default_factory=time.monotonic)


def prepare_data(data: LightningDataModule) -> bool:
    """Load and split the training data of litlab's own datamodules; whether there is a validation part."""

    def load() -> None:
        data.prepare_data()
        data.setup("fit")

    if hasattr(data, "hashes"):
        one_first("data", load)
    return bool(getattr(data, "has_validation", True))


def prepare(
    settings: FitSettings,
    model: LightningModule,
    data: LightningDataModule,
    config_text: str,
    seed: int,
    options: dict[str, Any],
    resumed: Resumed | None = None,
    origin: Origin = Origin(),  # noqa: B008 - it is never changed
) -> Plan:
    """Choose for the machine, claim the run folder, choose the Trainer's arguments; `options` are the user's.

    A run that goes on keeps its folder and what was chosen for its machine; one that is repeated lends the latter.
    """
    several_steps(settings.machine.steps_per_call, model, data, options)
    check_interval(options, data)
    extra: dict[str, Any] = {}
    if origin.repeated is not None:
        choice = origin.repeated.choice(model, data, options, settings.machine)
        extra = origin.repeated.devices(options)
    elif resumed is None:
        choice = machine.choose(model, data, options, settings.machine)
    else:
        config_text = resumed.check(config_text, model, data)
        resumed.prepare_model(model)
        choice = machine.of_run(resumed.folder.environment, options, settings.machine)
    machine.apply(choice, model)
    if choice.precision is not None:
        extra["precision"] = choice.precision
    if options.get("max_epochs") is None and options.get("max_steps", -1) == -1 and options.get("max_time") is None:
        extra["max_epochs"] = _DEFAULT_EPOCHS
    scored = ScoredSamples()
    own = fit_callbacks(settings, options, config_text)
    first = [callback for callback in own if isinstance(callback, ExactState)]  # before anything that draws
    callbacks = [*first, *users_callbacks(options), *(callback for callback in own if callback not in first), scored]
    extra["plugins"] = fit_plugins(options.get("plugins"))
    begin = _beginning(resumed, origin)
    begin.check_trainable(model)
    rate = begin.check_start(model)
    begin.check_length({**options, **extra}.get("max_epochs"))
    if begin.path is not None:
        callbacks.append(AnothersState())
    if rate is not None:
        callbacks.append(Changes(rate))
    check_program(processes(options), options.get("strategy"))
    if options.get("fast_dev_run"):
        return Plan(settings, None, {**extra, "callbacks": callbacks, "logger": False}, scored, choice)
    if resumed is None:
        folder = _claim(
            settings.experiment, config_text, lambda: {**environment.describe(seed, data), **origin.facts()}
        )
    else:
        folder = resumed.folder
        callbacks += resumed.callbacks(config_text)
    callbacks.append(KeptFolder(folder))
    return Plan(
        settings,
        folder,
        {
            **extra,
            "callbacks": callbacks,
            "logger": loggers(folder, options.get("logger"), None if resumed is None else resumed.step),
            "default_root_dir": str(folder.path),
        },
        scored,
        choice,
        resumed,
        origin,
        begin.path,
    )


def _beginning(resumed: Resumed | None, origin: Origin) -> Weights:
    """The checkpoint of another run that this one begins from, also where it was killed before one of its own."""
    if resumed is None:
        return Weights(None) if origin.start is None else origin.start
    if resumed.weights.path is not None:
        return Weights(None)
    return Weights(started_from("resume", resumed.folder, resumed.record()))


def _claim(experiment: str, config_text: str, facts: Callable[[], dict[str, Any]]) -> RunFolder:
    """One process claims the folder, the others are handed it."""
    own: list[RunFolder] = []

    def claim() -> str:
        files = {"config.yaml": config_text, "environment.json": json.dumps(facts(), indent=2) + "\n"}
        own.append(RunFolder.claim(runs_dir(), experiment, files))
        return str(own[0].path)

    handed = hand_on("run_folder", claim)
    return own[0] if own else RunFolder(Path(handed))

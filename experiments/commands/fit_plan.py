"""What is decided before a fit: precision, run folder, callbacks and the Trainer's arguments."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from callbacks import ExactState
from callbacks.records.scored_samples import ScoredSamples
from datamodules import LitDataModule
from experiments.commands.default_callbacks import AnothersState, fit_callbacks, fit_plugins, loggers, users_callbacks
from experiments.commands.repeated_run import Origin
from experiments.commands.resumed_run import Changes, Resumed
from experiments.machine import performance_choice
from experiments.machine.hardware import processes
from experiments.machine.performance_choice import PerformanceChoice
from experiments.machine.processes import broadcast_from_first, check_program, run_first_on_each_node
from experiments.options.run_options import RunOptions
from experiments.options.trainer_checks import check_interval
from experiments.runs import environment
from experiments.runs.checkpoint import CheckpointFile, started_from
from experiments.runs.find import runs_dir
from experiments.runs.folder import RunFolder, as_json
from experiments.runs.folder_guard import FolderGuard
from lit_models import set_steps_per_call

_DEFAULT_EPOCHS = 10


@dataclass
class Plan:
    """What `prepare` decided: the run options, the folder (none for a `fast_dev_run`) and the Trainer's arguments."""

    options: RunOptions
    folder: RunFolder | None
    trainer: dict[str, Any]
    scored: ScoredSamples
    choice: PerformanceChoice
    resumed: Resumed | None = None
    origin: Origin = field(default_factory=Origin)
    start: Path | None = None  # a checkpoint to start from
    started: float = field(default_factory=time.monotonic)


def prepare_data(data: LightningDataModule) -> bool:
    """Load and split the training data of litlab's own data modules; return True if there is a validation split."""

    def load() -> None:
        data.prepare_data()
        data.setup("fit")

    if isinstance(data, LitDataModule):
        run_first_on_each_node("data", load)
    return bool(getattr(data, "has_validation", True))


def prepare(
    options: RunOptions,
    model: LightningModule,
    data: LightningDataModule,
    config_text: str,
    seed: int,
    asked: dict[str, Any],
    resumed: Resumed | None = None,
    origin: Origin = Origin(),  # noqa: B008 - it is never changed
) -> Plan:
    """Choose precision and threads, claim the run folder, and choose Trainer arguments; `asked` are the user's.

    A resumed run keeps its folder and what was chosen for its machine; a repeated run takes over the latter.
    """
    world_size = processes(asked) * (asked.get("num_nodes") or 1)
    set_steps_per_call(options.steps_per_call, model, data, {**asked, "devices": world_size})
    check_interval(asked, data)
    extra: dict[str, Any] = {}
    if origin.repeated is not None:
        choice = origin.repeated.choice(model, data, asked, options)
        extra = origin.repeated.devices(asked)
    elif resumed is None:
        choice = performance_choice.choose(model, data, asked, options)
    else:
        config_text = resumed.check(config_text, model, data)
        resumed.prepare_model(model)
        choice = performance_choice.from_record(environment.read_chosen(resumed.folder), asked, options)
    performance_choice.set_memory_layout(choice, model)
    if choice.precision is not None:
        extra["precision"] = choice.precision
    if asked.get("max_epochs") is None and asked.get("max_steps", -1) == -1 and asked.get("max_time") is None:
        extra["max_epochs"] = _DEFAULT_EPOCHS
    scored = ScoredSamples()
    own = fit_callbacks(options, asked, config_text)
    first = [callback for callback in own if isinstance(callback, ExactState)]  # before anything that draws
    callbacks = [*first, *users_callbacks(asked), *(callback for callback in own if callback not in first), scored]
    extra["plugins"] = fit_plugins(asked.get("plugins"))
    begin = _beginning(resumed, origin)
    begin.check_trainable(model)
    rate = begin.check_start(model)
    begin.check_length({**asked, **extra}.get("max_epochs"))
    if begin.path is not None:
        callbacks.append(AnothersState())
    if rate is not None:
        callbacks.append(Changes(rate))
    check_program(processes(asked), asked.get("strategy"))
    if asked.get("fast_dev_run"):
        return Plan(options, None, {**extra, "callbacks": callbacks, "logger": False}, scored, choice)
    if resumed is None:
        folder = _claim(
            options.experiment, config_text, lambda: {**environment.describe(seed, data), **origin.as_record()}
        )
    else:
        folder = resumed.folder
        callbacks += resumed.callbacks(config_text)
    callbacks.append(FolderGuard(folder))
    return Plan(
        options,
        folder,
        {
            **extra,
            "callbacks": callbacks,
            "logger": loggers(folder, asked.get("logger"), None if resumed is None else resumed.step),
            "default_root_dir": str(folder.path),
        },
        scored,
        choice,
        resumed,
        origin,
        begin.path,
    )


def _beginning(resumed: Resumed | None, origin: Origin) -> CheckpointFile:
    """Return the checkpoint of another run to start from, also if this run was killed before its first own one."""
    if resumed is None:
        return CheckpointFile(None) if origin.start is None else origin.start
    if resumed.weights.path is not None:
        return CheckpointFile(None)
    return CheckpointFile(started_from("resume", resumed.folder, resumed.record()))


def _claim(experiment: str, config_text: str, facts: Callable[[], dict[str, Any]]) -> RunFolder:
    """Claim the run folder in one process and hand it to the others."""
    own: list[RunFolder] = []

    def claim() -> str:
        files = {"config.yaml": config_text, "environment.json": as_json(facts())}
        own.append(RunFolder.claim(runs_dir(), experiment, files))
        return str(own[0].path)

    handed = broadcast_from_first("run_folder", claim)
    return own[0] if own else RunFolder(Path(handed))

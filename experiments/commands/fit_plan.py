"""Decisions before training: precision, run folder, callbacks and the Trainer's arguments."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule

from callbacks.records.scored_samples import ScoredSamples
from datamodules import LitDataModule
from experiments.commands.default_callbacks import ResetBest, fit_callbacks, fit_plugins, loggers
from experiments.commands.found_settings import check_rates, with_found_settings
from experiments.commands.rerun_reference import ReferenceRun
from experiments.commands.resume_changes import ApplyChanges, EndTraining, ResumedRun
from experiments.commands.trainer_command import Built
from experiments.machine import performance_choice
from experiments.machine.hardware import processes
from experiments.machine.processes import broadcast_from_first, check_program, run_first_on_each_node
from experiments.options.trainer_checks import check_interval
from experiments.runs import environment
from experiments.runs.checkpoint import CheckpointFile, started_from
from experiments.runs.find import runs_dir
from experiments.runs.folder import RunFolder, as_json, sha256
from experiments.runs.folder_guard import FolderGuard
from experiments.runs.metrics_csv import RowBeforeCheckpoint
from lit_models import set_steps_per_call

_DEFAULT_EPOCHS = 10


@dataclass(frozen=True)
class Origin:
    """What a new run starts from besides its config: a checkpoint, Python objects, or a run to repeat.

    `objects` names what was passed from Python and cannot be written to a config.
    """

    start: CheckpointFile = field(default=CheckpointFile(None))
    objects: tuple[str, ...] = ()
    reference: ReferenceRun | None = None

    def as_record(self) -> dict[str, Any]:
        """Return the entries for environment.json."""
        record: dict[str, Any] = {}
        if self.start.path is not None:
            path = self.start.path.resolve()
            record["started_from"] = {"checkpoint": str(path), "sha256": sha256(path)}
        if self.objects:
            record["objects"] = list(self.objects)
        if self.reference is not None:
            started = self.reference.environment.get("started")
            record["rerun_of"] = {"run": str(self.reference.folder.path), "started": started}
        return record


@dataclass
class Plan:
    """The result of `prepare`: what is trained, in which folder, from which checkpoint, with which Trainer arguments.

    `folder` is None for a `fast_dev_run`. `samples` counts the samples of the last validation or test.
    """

    built: Built
    folder: RunFolder | None
    trainer: dict[str, Any]
    samples: ScoredSamples
    choice: performance_choice.PerformanceChoice
    origin: Origin
    start: Path | None
    resumed: ResumedRun | None = None
    started: float = field(default_factory=time.monotonic)
    unwritten: dict[Path, str] = field(default_factory=dict)  # files that could not be written, and why


def prepare_data(data: LightningDataModule) -> bool:
    """Load and split the training data of a `LitDataModule`; return True if there is a validation split."""

    def load() -> None:
        data.prepare_data()
        data.setup("fit")

    if isinstance(data, LitDataModule):
        run_first_on_each_node("data", load)
    return bool(getattr(data, "has_validation", True))


def prepare(
    built: Built,
    asked: dict[str, Any],
    resumed: ResumedRun | None = None,
    origin: Origin = Origin(),
) -> Plan:
    """Choose precision and threads, create the run folder, and choose Trainer arguments; `asked` are the user's.

    A resumed run keeps its folder and its recorded choice. A rerun uses the recorded choice of the run it repeats.
    """
    options, model, config_text = built.options, built.model, built.config_text
    world_size = processes(asked) * (asked.get("num_nodes") or 1)
    set_steps_per_call(options.steps_per_call, model, built.data, {**asked, "devices": world_size})
    check_interval(asked, built.data)
    chosen: dict[str, Any] = {"plugins": fit_plugins(asked.get("plugins"))}
    if origin.reference is not None:
        choice = origin.reference.choice(model, built.data, asked, options)
        chosen |= origin.reference.devices(asked)
    elif resumed is None:
        choice = performance_choice.choose(model, built.data, asked, options)
    else:
        config_text = resumed.continue_config(config_text, model, built.data)
        recorded = environment.read_chosen(resumed.folder)
        choice = performance_choice.as_trained(recorded, model, built.data, asked, options)
    performance_choice.set_memory_layout(choice, model)
    if choice.precision is not None:
        chosen["precision"] = choice.precision
    if asked.get("max_epochs") is None and asked.get("max_steps", -1) == -1 and asked.get("max_time") is None:
        chosen["max_epochs"] = _DEFAULT_EPOCHS
    samples = ScoredSamples()
    callbacks = [*fit_callbacks(options, asked, config_text), samples]
    other = _checkpoint_of_another_run(resumed, origin)
    other.check_trainable(model)
    rate = other.check_start(model)
    other.check_length({**asked, **chosen}.get("max_epochs"))
    callbacks = with_found_settings(
        callbacks, config_text, resumed is not None and resumed.weights.path is not None, other.path is not None
    )
    if resumed is None and origin.reference is None:
        check_rates(model, callbacks)
    if other.path is not None:
        callbacks.append(ResetBest())
    if rate is not None:
        callbacks.append(ApplyChanges(rate))
    check_program(processes(asked), asked.get("strategy"))
    chosen |= {"callbacks": callbacks, "logger": False}
    plan = Plan(built, None, chosen, samples, choice, origin, other.path or origin.start.path)
    if not asked.get("fast_dev_run"):
        plan.folder, plan.resumed = _claim(plan) if resumed is None else resumed.folder, resumed
        if resumed is not None:
            callbacks += [resumed.callback(config_text), EndTraining()]
        callbacks += [FolderGuard(plan.folder), RowBeforeCheckpoint()]
        chosen["logger"] = loggers(plan.folder, asked.get("logger"), None if resumed is None else resumed.logged_steps)
        chosen["default_root_dir"] = str(plan.folder.path)
    return plan


def _checkpoint_of_another_run(resumed: ResumedRun | None, origin: Origin) -> CheckpointFile:
    """Return the checkpoint of another run to start from, also if this run was killed before its own first one."""
    if resumed is None:
        return origin.start
    if resumed.weights.path is not None:
        return CheckpointFile(None)
    return CheckpointFile(started_from("resume", resumed.folder, resumed.environment()))


def _claim(plan: Plan) -> RunFolder:
    """Create the run folder on rank 0, with all that a resume needs in it, and return it on all ranks."""
    built = plan.built
    own: list[RunFolder] = []

    def claim() -> str:
        record = {**environment.describe(built.seed, built.data), **plan.origin.as_record()}
        record["chosen"] = plan.choice.as_record()  # `report_start` completes it
        files = {"config.yaml": built.config_text, "environment.json": as_json(record)}
        own.append(RunFolder.claim(runs_dir(), built.options.experiment, files))
        return str(own[0].path)

    path = broadcast_from_first("run_folder", claim)
    return own[0] if own else RunFolder(Path(path))

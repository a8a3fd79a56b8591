"""The callbacks, loggers and plugins that every run has, whatever else its config asks for."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, LearningRateMonitor, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import ClusterEnvironment
from lightning.pytorch.plugins.io import CheckpointIO

from callbacks import (
    BestCheckpoint,
    ChartLayout,
    ExactState,
    FiniteLoss,
    HyperParameters,
    LastCheckpoint,
    ModelGraph,
    ModelTable,
    NoStepHooks,
    RunSettings,
    SkipNotFinite,
    StopSignals,
    progress_bar,
)
from callbacks.guards.patience import Patience
from callbacks.training.compiled_network import CompiledNetwork
from experiments.machine.launchers import slurm_plugins
from experiments.options.run_options import RunOptions
from experiments.runs.checkpoint_io import AtomicCheckpointIO
from experiments.runs.folder import RunFolder
from experiments.runs.metrics_csv import MetricsCSV
from experiments.runs.tensorboard import RunTensorBoard


class AnothersState(NoStepHooks, Callback):
    """Drop the other run's best value and used patience when a new run starts from its checkpoint."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # public, without a type
            if isinstance(callback, (Checkpoint, EarlyStopping, HyperParameters)):
                checkpoint["callbacks"].pop(callback.state_key, None)


def loggers(folder: RunFolder, asked: Any, steps: int | None = None) -> list[Logger] | bool:
    """Return TensorBoard and metrics.csv; a logger of the user's replaces TensorBoard, `false` turns all off."""
    if asked is False:
        return False
    own: list[Logger] = []
    if asked in (None, True):
        own = [RunTensorBoard(folder, steps)]
    elif isinstance(asked, (list, tuple)):
        own = list(asked)
    else:
        own = [asked]
    return [*own, MetricsCSV(folder.metrics)]


def fit_plugins(asked: Any) -> list[Any]:
    """Return the user's plugins, plus atomic checkpoints and litlab's handling of SLURM signals unless they do it."""
    plugins = list(asked) if isinstance(asked, (list, tuple)) else [] if asked is None else [asked]
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(AtomicCheckpointIO())
    if not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        plugins += slurm_plugins()
    return plugins


def fit_callbacks(options: RunOptions, trainer: dict[str, Any], config_text: str) -> list[Callback]:
    """Return the default callbacks of a fit; `trainer` holds the Trainer's arguments with the user's callbacks."""
    mode = options.mode or "min"
    found: list[Callback] = [
        ExactState(config_text),
        StopSignals(),
        BestCheckpoint(options.monitor, mode),
        LastCheckpoint(options.save_every_steps, options.save_every_minutes),
        SkipNotFinite() if options.not_finite == "skip" else FiniteLoss(),
        HyperParameters(options.monitor, mode),
        *everyday_callbacks(trainer),
    ]
    if options.patience is not None:
        found.append(Patience(options.monitor or "", mode=mode, patience=options.patience, min_delta=options.min_delta))
    if trainer.get("logger") is not False and not trainer.get("fast_dev_run"):
        found += [LearningRateMonitor(), RunSettings(config_text), ModelGraph(), ChartLayout()]
    if options.compile:
        found.append(CompiledNetwork())
    if trainer.get("enable_checkpointing") is False:
        found = [callback for callback in found if not isinstance(callback, Checkpoint)]
    kinds = {type(callback) for callback in users_callbacks(trainer)}
    # A LearningRateMonitor or EarlyStopping of the user's replaces the default; checkpoints of theirs are additional.
    return [callback for callback in found if type(callback) not in kinds]


def everyday_callbacks(trainer: dict[str, Any]) -> list[Callback]:
    """Return the progress bar and the table of layers, unless switched off or replaced by the user's own."""
    users = users_callbacks(trainer)
    found: list[Callback] = []
    if trainer.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in users):
        found.append(progress_bar())
    if trainer.get("enable_model_summary") is not False:
        found.append(ModelTable())
    return found


def users_callbacks(trainer: dict[str, Any]) -> list[Callback]:
    """Return the callbacks that the user asked for.

    Of litlab's own, only the last of each type is kept: two would write the same keys, and a config and a fragment may
    both ask for one.
    """
    users = trainer.get("callbacks") or []
    asked = list(users) if isinstance(users, (list, tuple)) else [users]
    last = {type(callback): index for index, callback in enumerate(asked)}
    own = [type(callback).__module__.startswith("callbacks.") for callback in asked]
    return [c for i, c in enumerate(asked) if not own[i] or last[type(c)] == i]

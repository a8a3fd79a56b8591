"""Callbacks, loggers and plugins that litlab adds to those of the config."""

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
from callbacks.checkpoints.state_checks import StateChecks
from callbacks.guards.patience import Patience
from callbacks.training.compiled_network import CompiledNetwork
from experiments.machine.launchers import slurm_plugins
from experiments.options.run_options import RunOptions
from experiments.runs.checkpoint_io import AtomicCheckpointIO, CheckpointRehearsal
from experiments.runs.folder import RunFolder
from experiments.runs.metrics_csv import MetricsCSV
from experiments.runs.tensorboard import RunTensorBoard


class ResetBest(NoStepHooks, Callback):
    """Callback that drops the best value and used patience from the checkpoint of another run."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # public, without a type
            if isinstance(callback, (Checkpoint, EarlyStopping, HyperParameters)):
                checkpoint["callbacks"].pop(callback.state_key, None)


def loggers(folder: RunFolder, asked: Any, steps: int | None = None) -> list[Logger] | bool:
    """Return TensorBoard and metrics.csv; loggers of the user replace TensorBoard, and `false` disables all."""
    if asked is False:
        return False
    first = [RunTensorBoard(folder, steps)] if asked in (None, True) else _as_list(asked)
    return [*first, MetricsCSV(folder.metrics)]


def fit_plugins(asked: Any) -> list[Any]:
    """Return the user's plugins, and litlab's plugins of a kind that the user did not pass."""
    plugins = _as_list(asked)
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(AtomicCheckpointIO())
    if not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        plugins += slurm_plugins()
    return plugins


def fit_callbacks(options: RunOptions, trainer: dict[str, Any], config_text: str) -> list[Callback]:
    """Return the user's callbacks and the defaults; `trainer` are the Trainer's arguments as the user gave them."""
    mode = options.mode or "min"  # it is not used without a metric
    found: list[Callback] = [
        ExactState(config_text),
        StateChecks(),
        CheckpointRehearsal(),
        StopSignals(),
        BestCheckpoint(options.monitor, mode),
        LastCheckpoint(options.save_every_steps, options.save_every_minutes),
        SkipNotFinite() if options.not_finite == "skip" else FiniteLoss(),
        HyperParameters(options.monitor, mode),
        *display_callbacks(trainer),
    ]
    if options.patience is not None:
        found.append(Patience(options.monitor or "", mode=mode, patience=options.patience, min_delta=options.min_delta))
    if trainer.get("logger") is not False and not trainer.get("fast_dev_run"):
        found += [LearningRateMonitor(), RunSettings(config_text), ModelGraph(), ChartLayout()]
    if options.compile:
        found.append(CompiledNetwork())
    if trainer.get("enable_checkpointing") is False:
        found = [callback for callback in found if not isinstance(callback, Checkpoint)]
    users = users_callbacks(trainer)
    # A callback of the user replaces the default of the same type; subclasses, such as checkpoints, are additional.
    own = [callback for callback in found if type(callback) not in {type(callback) for callback in users}]
    # ExactState comes before all callbacks that may generate random numbers.
    first = [callback for callback in own if isinstance(callback, ExactState)]
    return [*first, *users, *(callback for callback in own if callback not in first)]


def display_callbacks(trainer: dict[str, Any]) -> list[Callback]:
    """Return the progress bar and the table of layers, unless the user disabled or replaced them."""
    users = users_callbacks(trainer)
    found: list[Callback] = []
    if trainer.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in users):
        found.append(progress_bar())
    if trainer.get("enable_model_summary") is not False:
        found.append(ModelTable())
    return found


def users_callbacks(trainer: dict[str, Any]) -> list[Callback]:
    """Return the callbacks of the user; of several of the same class of litlab, only the last.

    Two config files may both name a callback, and two instances would write the same keys.
    """
    asked = _as_list(trainer.get("callbacks"))
    last = {type(callback): callback for callback in asked}
    return [c for c in asked if not type(c).__module__.startswith("callbacks.") or last[type(c)] is c]


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]

"""Evaluation of a checkpoint on the validation or test split: the Trainer's arguments, the metrics, results.json."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import EndFigures
from callbacks.guards.stop_signals import CallersSignals
from callbacks.records.scored_samples import ScoredSamples
from callbacks.trainer_state import format_number, is_dry_run
from datamodules import LitDataModule
from experiments.commands.default_callbacks import display_callbacks, users_callbacks
from experiments.commands.other_data import is_other
from experiments.commands.run_environment import changed_data, recorded_data, timestamp
from experiments.commands.trainer_command import Built
from experiments.machine.launchers import slurm_plugins
from experiments.machine.performance_choice import PerformanceChoice
from experiments.messages.formatting import count, say, shown, sizes_text
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.folder import RunFolder
from experiments.runs.tensorboard import RunTensorBoard
from lit_models.parts.several_steps import SEARCHES


def evaluation_arguments(
    options: dict[str, Any], folder: RunFolder | None, choice: PerformanceChoice
) -> dict[str, Any]:
    """Return Trainer arguments without checkpoints, and with a logger only if the user's callbacks plot figures."""
    users = [c for c in users_callbacks(options) if not isinstance(c, (Checkpoint, *SEARCHES))]
    arguments: dict[str, Any] = {
        "callbacks": [*users, CallersSignals(), *display_callbacks({**options, "enable_model_summary": False})],
        "logger": False,  # results.json stores the metrics
        "enable_checkpointing": False,
    }
    if choice.precision is not None:
        arguments["precision"] = choice.precision
    if launcher := slurm_plugins():
        arguments["plugins"] = [*(options.get("plugins") or []), *launcher]
    if folder is not None:
        arguments["default_root_dir"] = str(folder.path)
        if options.get("logger") in (None, True) and any(isinstance(callback, EndFigures) for callback in users):
            arguments["logger"] = [RunTensorBoard(folder)]
    return arguments


def evaluate(
    command: str,
    trainer: Trainer,
    built: Built,
    weights: CheckpointFile,
    samples: ScoredSamples,
    folder: RunFolder | None,
) -> dict[str, float]:
    """Validate or test, and return the metrics of rank 0.

    Print the metrics with checkpoint and split, and add them to results.json in the folder.
    """
    data = built.data
    weights.check(built.model)
    if command == "validate":
        check_same_split(data, folder)
    run, key, split = (trainer.test, "test", "test") if command == "test" else (trainer.validate, "val", "validation")
    with without_callback_warnings():
        scores = run(built.model, datamodule=data, ckpt_path=weights.path, weights_only=True, verbose=False)
    if not trainer.is_global_zero:
        return {}
    metrics = {name: float(value) for result in scores for name, value in result.items()}
    size = data.split_sizes().get(key, samples.number) if isinstance(data, LitDataModule) else samples.number
    limited = samples.number != size
    scored = f"{split}, {count(samples.number, 'sample')}"
    if limited:
        scored += f" of {size:,}: limited by trainer.limit_{key}_batches"
    print_checkpoint(weights)
    print_data(data, folder, f"scored: {scored}")
    for name, value in metrics.items():
        print(f"{name:<11} {format_number(value)}")
    if folder is None:
        return metrics
    if (figures := folder.figures / command).is_dir():
        print(f"figures     {shown(figures)}")
    if weights.path is None or is_dry_run(trainer):
        return metrics
    result = {
        "verb": command,
        **weights.as_record(),
        "data": type(data).__name__,
        "split": split,
        "n": samples.number,
        "limited": limited,
        "precision": str(trainer.precision),
        "metrics": metrics,
        "sha256": data.hashes() if isinstance(data, LitDataModule) else {},
        "time": timestamp(),
    }
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.add_result(result)
    except OSError as error:  # a full disk, or the run of another user
        path = shown(folder.results)
        say(f"litlab: {path} could not be written ({error.strerror}); the metrics above are not stored.")
    return metrics


def check_same_split(data: LightningDataModule, folder: RunFolder | None) -> None:
    """Raise an error if data or split differ from those of the run: validation would score training samples."""
    if isinstance(data, LitDataModule):
        data.prepare_data()
        data.setup("validate")
    if not getattr(data, "has_validation", True):
        raise MisconfigurationException(
            "validate: this run has no validation split (data.val_split is 0). Use `litlab test`."
        )
    if changed_data(data, recorded_data(folder)) is not None:
        raise MisconfigurationException(
            "validate: data or split changed since the run was trained, so the metrics would include samples that "
            "were trained on. Restore the data and remove --data options, or use `litlab test`."
        )


@contextmanager
def without_callback_warnings() -> Iterator[None]:
    """Ignore Lightning's warning about missing checkpoint and early stopping callbacks: scoring needs none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")
        yield


def print_checkpoint(weights: CheckpointFile) -> None:
    """Print path, epoch and step of the checkpoint, or that the weights are random."""
    if weights.path is None:
        print("\ncheckpoint  none: these are untrained, random weights")
    else:
        step = weights.content.get("global_step")
        print(f"\ncheckpoint  {shown(weights.path)} (epoch {weights.epoch_shown}, step {step})")
        if weights.note:
            print(weights.note)


def print_data(data: LightningDataModule, folder: RunFolder | None, use: str) -> None:
    """Print the data with its sizes and use, and the folder of the results if it is not the data of the run."""
    other = folder is not None and is_other(folder)
    sizes = sizes_text(data, None if other else recorded_data(folder).get("sizes"))
    print(f"data        {type(data).__name__}{sizes}; {use}")
    if folder is not None and other:
        print(f"results     {shown(folder.path)}, because this is not the data of the run")

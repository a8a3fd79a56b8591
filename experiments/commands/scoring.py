"""Scoring stated weights on a stated split, and recording the metrics with what made them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import EndFigures
from callbacks.records.scored_samples import ScoredSamples
from datamodules import LitDataModule
from experiments.commands.default_callbacks import everyday_callbacks, users_callbacks
from experiments.machine.launchers import slurm_plugins
from experiments.machine.performance_choice import PerformanceChoice
from experiments.messages.formatting import count, one_line, say, shown, sizes_text
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.folder import RunFolder, read_environment
from experiments.runs.tensorboard import RunTensorBoard

_SPLITS = {"validate": "val", "test": "test"}


def trainer_options(options: dict[str, Any], folder: RunFolder | None, choice: PerformanceChoice) -> dict[str, Any]:
    """Return Trainer arguments for scoring: no checkpoints, no logger unless figures need one, the user's callbacks."""
    kept = [callback for callback in users_callbacks(options) if not isinstance(callback, Checkpoint)]
    everyday = everyday_callbacks({**options, "enable_model_summary": False})
    # Without figure callbacks there is nothing to log: results.json stores the metrics.
    draws = (
        folder is not None and options.get("logger") in (None, True) and any(isinstance(c, EndFigures) for c in kept)
    )
    log = [RunTensorBoard(folder)] if draws and folder is not None else False
    chosen: dict[str, Any] = {"callbacks": [*kept, *everyday], "logger": log, "enable_checkpointing": False}
    if choice.precision is not None:
        chosen["precision"] = choice.precision
    if launcher := slurm_plugins():
        chosen["plugins"] = [*(options.get("plugins") or []), *launcher]
    if folder is not None:
        chosen["default_root_dir"] = str(folder.path)
    return chosen


def score(
    verb: str,
    trainer: Trainer,
    model: LightningModule,
    data: LightningDataModule,
    weights: CheckpointFile,
    scored: ScoredSamples,
) -> None:
    """Validate or test these weights, print what made the figure, and write it into the run folder."""
    part = _SPLITS[verb]
    if verb == "validate":
        check_same_split(data, weights.folder)
    run = trainer.test if verb == "test" else trainer.validate
    with without_callback_warnings():
        figures = run(model, datamodule=data, ckpt_path=weights.path, weights_only=True, verbose=False)
    if not trainer.is_global_zero:
        return
    metrics = {name: float(value) for result in figures for name, value in result.items()}
    whole = data.split_sizes().get(part) if isinstance(data, LitDataModule) else None
    limited = whole is not None and scored.number != whole
    of_all = f" of {whole:,}: limited by trainer.limit_{part}_batches" if limited and whole is not None else ""
    print_checkpoint(weights)
    what = f"{_split_name(part)}, {count(scored.number, 'sample')}{of_all}"
    print(
        f"data        {type(data).__name__}{sizes_text(data, data_record(weights.folder).get('sizes'))}; scored: {what}"
    )
    for name, value in metrics.items():
        print(f"{name:<11} {value:.6f}")
    if weights.folder is not None and (drawn := weights.folder.figures / verb).is_dir():
        print(f"figures     {shown(drawn)}")
    if weights.folder is None or weights.path is None or is_dry(trainer):
        return
    record = {
        "verb": verb,
        **weights.as_record(),
        "data": type(data).__name__,
        "split": _split_name(part),
        "n": scored.number,
        "limited": limited,
        "precision": str(trainer.precision),
        "metrics": metrics,
        "sha256": data.hashes() if isinstance(data, LitDataModule) else {},
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    try:
        weights.folder.add_result(record)
    except OSError as problem:  # a full disk, or somebody else's run
        say(
            f"litlab: {shown(weights.folder.results)} could not be written ({problem.strerror}); the metrics above "
            "are not stored."
        )


def check_same_split(data: LightningDataModule, folder: RunFolder | None) -> None:
    """Raise if the split differs from that of the run: validation would score samples that were trained on."""
    if isinstance(data, LitDataModule):
        data.prepare_data()
        data.setup("validate")
    if not getattr(data, "has_validation", True):
        raise MisconfigurationException(
            "validate: this run has no validation split (data.val_split is 0). Use `litlab test`."
        )
    if not isinstance(data, LitDataModule):
        return
    kept, now = data_record(folder).get("sha256") or {}, data.hashes()
    if any(kept.get(name, now.get(name)) != now.get(name) for name in ("train_data", "split")):
        raise MisconfigurationException(
            "validate: data or split changed since the run was trained, so the metrics would include samples that "
            "were trained on. Remove the --data options."
        )


def data_record(folder: RunFolder | None) -> dict[str, Any]:
    """Return what the run recorded about its data: `sizes` and `sha256` of the train and validation split."""
    if folder is None or not folder.environment.is_file():
        return {}
    try:
        kept: dict[str, Any] = read_environment(folder.environment).get("data") or {}
    except (OSError, ValueError) as error:
        raise MisconfigurationException(
            f"run: {shown(folder.environment)} is corrupted ({one_line(str(error), 100)}); it records the data of "
            "the run. Put it back, or move it away to continue without it."
        ) from error
    return kept


@contextmanager
def without_callback_warnings() -> Iterator[None]:
    """Ignore Lightning's warning that checkpoint and early stopping callbacks are missing: scoring needs none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")
        yield


def _split_name(part: str) -> str:
    return {"val": "validation", "test": "test"}[part]


def print_checkpoint(weights: CheckpointFile) -> None:
    if weights.path is None:
        print("\ncheckpoint  none: these are untrained, random weights")
    else:
        print(
            f"\ncheckpoint  {shown(weights.path)} (epoch {weights.epoch_shown}, "
            f"step {weights.content.get('global_step')})"
        )


def is_dry(trainer: Trainer) -> bool:
    return bool(getattr(trainer, "fast_dev_run", False))

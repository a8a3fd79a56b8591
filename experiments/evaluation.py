"""The verbs `validate`, `test` and `predict`: always of stated weights, on a stated split."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import PredictionWriter
from experiments.checkpoint import Weights
from experiments.defaults import everyday_callbacks
from experiments.run_folder import RunFolder
from experiments.training import check_machine, shown, sizes_text
from experiments.words import count

_SPLITS = {"validate": "val", "test": "test", "predict": "test"}


def find_weights(verb: str, words: list[str], source: Path | None) -> tuple[list[str], Weights]:
    """Take `--ckpt_path` and `--untrained` out of the words and decide which weights are meant.

    They are kept from LightningCLI because it would let the checkpoint's settings override flags without a word.
    """
    words, given = take(words, "--ckpt_path")
    untrained = "--untrained" in words
    words = [word for word in words if word != "--untrained"]
    if verb == "fit":
        return words, Weights(Path(given) if given else None)
    folder = RunFolder(source.resolve()) if source is not None else None
    if given in ("best", "last"):
        if folder is None:
            raise MisconfigurationException(
                f"{verb}: --ckpt_path {given} needs a run: `litlab {verb} RUN --ckpt_path {given}`."
            )
        path: Path | None = folder.best if given == "best" else folder.last
    elif given:
        path = Path(given).resolve()
        beside = RunFolder(path.parent.parent)
        if folder is None and beside.config.is_file():
            folder = beside
    else:
        path = folder.best if folder is not None and not untrained else None
    if any(word == "--help" or word.startswith("--print_config") or ".help" in word for word in words):
        untrained = True
    if path is None and not untrained:
        raise MisconfigurationException(
            f"{verb}: which weights? `litlab {verb} RUN` takes the best ones of a run (`litlab list runs`), "
            "--ckpt_path FILE those of a file, and --untrained random ones on purpose."
        )
    if path is not None and not path.is_file():
        raise MisconfigurationException(
            f"{verb}: {shown(path)} is not there{'; the run has not finished an epoch' if not given else ''}."
        )
    if folder is not None and not any(word.startswith("--config=") for word in words):
        words = [f"--config={folder.config}", *words]
    return words, Weights(path, folder)


def take(words: list[str], name: str) -> tuple[list[str], str | None]:
    """Remove every `name VALUE` and `name=VALUE`; the last value counts."""
    result: list[str] = []
    value: str | None = None
    rest = iter(words)
    for word in rest:
        if word == name:
            value = next(rest, None)
            if value is None:
                raise MisconfigurationException(f"{name} needs a value after it.")
        elif word.startswith(f"{name}="):
            value = word.partition("=")[2]
        else:
            result.append(word)
    return result, value


def trainer_options(options: dict[str, Any], folder: RunFolder | None) -> dict[str, Any]:
    """Trainer arguments for a verb that trains nothing: no logger, no checkpoints, the user's other callbacks."""
    check_machine(options)
    users = options.get("callbacks") or []
    users = list(users) if isinstance(users, (list, tuple)) else [users]
    users = [callback for callback in users if not isinstance(callback, Checkpoint)]
    everyday = everyday_callbacks({**options, "enable_model_summary": False})
    root = {} if folder is None else {"default_root_dir": str(folder.path)}
    return {"callbacks": [*users, *everyday], "logger": False, "enable_checkpointing": False, **root}


def score(verb: str, trainer: Trainer, model: LightningModule, data: LightningDataModule, weights: Weights) -> None:
    """Validate or test these weights, print what made the figure, and write it into the run folder."""
    weights.check(model)
    part = _SPLITS[verb]
    if verb == "validate" and not getattr(data, "has_validation", True):
        raise MisconfigurationException("validate: this run has no validation part (data.val_split is 0).")
    run = trainer.test if verb == "test" else trainer.validate
    with _training_callbacks_left_out():
        figures = run(model, datamodule=data, ckpt_path=weights.path, weights_only=True, verbose=False)
    if not trainer.is_global_zero:
        return
    metrics = {name: float(value) for result in figures for name, value in result.items()}
    sizes = data.split_sizes() if hasattr(data, "split_sizes") else {}
    _say_weights(weights)
    print(f"data        {type(data).__name__}{sizes_text(data)}; scored: {_split_name(part)}{_n(sizes.get(part))}")
    for name, value in metrics.items():
        print(f"{name:<11} {value:.6f}")
    if weights.folder is not None and weights.path is not None and not _dry(trainer):
        hashes = data.hashes() if hasattr(data, "hashes") else {}
        weights.folder.add_result(
            {
                "verb": verb,
                **weights.facts(),
                "split": _split_name(part),
                "n": sizes.get(part),
                "metrics": metrics,
                "sha256": hashes,
                "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            }
        )


@contextmanager
def _training_callbacks_left_out() -> Iterator[None]:
    """Lightning warns that checkpoints and early stopping are missing; here they are left out on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")
        yield


def _n(number: int | None) -> str:
    return "" if number is None else f", {count(number, 'sample')}"


def _split_name(part: str) -> str:
    return {"val": "validation", "test": "test"}[part]


def _say_weights(weights: Weights) -> None:
    if weights.path is None:
        print("\ncheckpoint  none: these are untrained, random weights")
    else:
        print(
            f"\ncheckpoint  {shown(weights.path)} (epoch {weights.epoch_shown}, "
            f"step {weights.content.get('global_step')})"
        )


def _dry(trainer: Trainer) -> bool:
    return bool(getattr(trainer, "fast_dev_run", False))


def predict(
    trainer: Trainer, model: LightningModule, data: LightningDataModule, weights: Weights, writer: PredictionWriter
) -> None:
    """Write a CSV with a row per test sample: sample, truth where known, prediction, probabilities."""
    weights.check(model)
    with _training_callbacks_left_out():
        trainer.predict(model, datamodule=data, return_predictions=False, ckpt_path=weights.path, weights_only=True)
    if trainer.is_global_zero and not _dry(trainer):
        _say_weights(weights)
        print(f"data        {type(data).__name__}{sizes_text(data)}; predicted: test")
        print(f"written     {shown(writer.path)} ({count(writer.rows_written, 'row')})", flush=True)


def prediction_writer(weights: Weights, output: str | None) -> PredictionWriter:
    """The callback that writes to `--output`, else to a new file in the run folder, else to the working folder."""
    if output is not None:
        return PredictionWriter(Path(output))
    folder = weights.folder or RunFolder(Path.cwd())
    return PredictionWriter(folder.free_name("predictions", ".csv"))

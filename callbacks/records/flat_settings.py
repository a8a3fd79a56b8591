"""Hyperparameters of a run as a flat mapping with short keys, for TensorBoard's HPARAMS tab."""

import os
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer

_MAX_LENGTH = 60
# Data properties and local paths are not hyperparameters.
_OMITTED = {
    "input_shape", "num_classes", "num_targets", "vocab_size", "class_names", "data_dir", "root", "path", "download"
}  # fmt: skip


def flat_settings(trainer: Trainer, module: LightningModule) -> dict[str, str | int | float]:
    """Return the hyperparameters that every run has, then the other arguments of the model and the data (`data/...`).

    TensorBoard shows the columns of one run for all runs, so the first columns are the same for every model.
    """
    arguments = _flatten(module.hparams)
    data = trainer.datamodule  # type: ignore[attr-defined]
    data_arguments = _flatten(data.hparams) if data is not None else {}
    schedulers = trainer.lr_scheduler_configs
    seed = os.environ.get("PL_GLOBAL_SEED", "")  # set by `seed_everything`
    columns: dict[str, Any] = {
        "model": type(module).__name__,
        "data": type(data).__name__ if data is not None else "",
        "batch_size": data_arguments.pop("batch_size", None),
        "optimizer": type(trainer.optimizers[0]).__name__ if trainer.optimizers else None,
        "lr": _learning_rate(trainer, arguments),
        "scheduler": arguments.get("scheduler") or (type(schedulers[0].scheduler).__name__ if schedulers else "none"),
        "loss": arguments.get("loss"),
        "seed": int(seed) if seed.isdigit() else None,
    }
    for name in ("optimizer", "scheduler", "loss", "lr", "optimizer.lr"):
        arguments.pop(name, None)
    rest = arguments | {f"data/{key}": value for key, value in data_arguments.items()}
    return {key: value for key, value in {**columns, **rest}.items() if value is not None and value != ""}


def _flatten(hparams: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in hparams.items():
        if key.startswith("_") or key in _OMITTED:
            continue
        if isinstance(value, Mapping):
            flat |= _flatten_spec(key, value)
        else:
            flat[key] = _scalar(value)
    return {key: value for key, value in flat.items() if value is not None}


def _flatten_spec(key: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten `{"name": "sgd", "lr": 0.1}` at `optimizer` to `optimizer: sgd, optimizer.lr: 0.1`; class paths too."""
    inner = {**(spec.get("init_args") or {}), **spec}
    name = inner.pop("class_path", None) or inner.pop("name", None)
    inner.pop("init_args", None)
    flat = {f"{key}.{field}": _scalar(value) for field, value in inner.items() if not field.startswith("_")}
    return ({key: str(name).rpartition(".")[2]} if name else {}) | flat


def _scalar(value: Any) -> str | int | float | None:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 3]}..."


def _learning_rate(trainer: Trainer, arguments: Mapping[str, Any]) -> float | None:
    """Return the learning rate of the optimizer, or the `max_lr` of a schedule, which replaces it."""
    value = arguments.get("optimizer.lr", arguments.get("scheduler.max_lr", arguments.get("lr")))
    if not isinstance(value, (int, float)):
        value = trainer.optimizers[0].defaults.get("lr") if trainer.optimizers else None
    return None if value is None else float(value)

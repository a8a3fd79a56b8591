"""The settings of a run as one flat table of short keys, for HPARAMS."""

import os
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer

_LONGEST_TEXT = 60
# Facts of the data that the model was given, and paths of one machine: no setting somebody compares.
_NOT_COMPARED = {
    "input_shape", "num_classes", "num_targets", "vocab_size", "class_names", "data_dir", "root", "path", "download"
}  # fmt: skip


def flat_settings(trainer: Trainer, module: LightningModule) -> dict[str, str | int | float]:
    """The columns every run has, first, then what else the model and the data were told (`data/…`).

    TensorBoard shows the columns of one run for all of them, so the first ones are the same for every model.
    """
    told = _flatten(module.hparams)
    data = trainer.datamodule  # type: ignore[attr-defined]
    data_told = _flatten(data.hparams) if data is not None else {}
    columns: dict[str, Any] = {
        "model": type(module).__name__,
        "data": type(data).__name__ if data is not None else "",
        "batch_size": data_told.pop("batch_size", None),
        "optimizer": type(trainer.optimizers[0]).__name__ if trainer.optimizers else None,
        "lr": _learning_rate(trainer, told),
        "scheduler": told.get("scheduler") or _scheduler(trainer),
        "loss": told.get("loss"),
        "seed": _seed(),
    }
    for name in ("optimizer", "scheduler", "loss", "lr", "optimizer.lr"):
        told.pop(name, None)
    rest = told | {f"data/{key}": value for key, value in data_told.items()}
    return {key: value for key, value in {**columns, **rest}.items() if value is not None and value != ""}


def _flatten(hparams: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in hparams.items():
        if key.startswith("_") or key in _NOT_COMPARED:
            continue
        if isinstance(value, Mapping):
            flat |= _flatten_spec(key, value)
        else:
            flat[key] = _scalar(value)
    return {key: value for key, value in flat.items() if value is not None}


def _flatten_spec(key: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """{"name": "sgd", "lr": 0.1} under "optimizer" -> optimizer sgd, optimizer.lr 0.1; a class path likewise."""
    inner = {**(spec.get("init_args") or {}), **spec}
    name = inner.pop("class_path", None) or inner.pop("name", None)
    inner.pop("init_args", None)
    flat = {f"{key}.{field}": _scalar(value) for field, value in inner.items() if not field.startswith("_")}
    return ({key: str(name).rpartition(".")[2]} if name else {}) | flat


def _scalar(value: Any) -> str | int | float | None:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}..."


def _learning_rate(trainer: Trainer, told: Mapping[str, Any]) -> float | None:
    """As the optimizer was given it, not as the schedule left it."""
    given = told.get("optimizer.lr", told.get("lr"))
    if isinstance(given, (int, float)):
        return float(given)
    rate = trainer.optimizers[0].defaults.get("lr") if trainer.optimizers else None
    return float(rate) if rate is not None else None


def _scheduler(trainer: Trainer) -> str:
    configs = trainer.lr_scheduler_configs
    return type(configs[0].scheduler).__name__ if configs else "none"


def _seed() -> int | None:
    """What `seed_everything` left in the environment."""
    text = os.environ.get("PL_GLOBAL_SEED", "")
    return int(text) if text.isdigit() else None

"""Callback that writes predictions to a CSV file."""

import csv
import errno
import os
from collections.abc import Sequence
from contextlib import ExitStack
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from callbacks.checkpoints.atomic_files import atomic_write
from callbacks.trainer_state import is_dry_run


class PredictionWriter(BasePredictionWriter):
    """CSV file with one row per sample, in the order of the predict data.

    | column                       | what                                               | when                        |
    |------------------------------|----------------------------------------------------|-----------------------------|
    | sample                       | index, from 0                                      | always                      |
    | target, prediction           | class index, or value (`target_0`, ... if several) | target: if the data has it  |
    | target_name, prediction_name | class names                                        | if the data has class names |
    | p_<class>                    | probability of each class                          | classifiers                 |

    `predict_step` must return a dict (`target`, `prediction`, `probabilities`), or a tensor `(B, ...)` of predictions.
    Numbers have all digits of their precision. Line breaks, tabs and backslashes in names are escaped as in Python. The
    file is written atomically at the end of predict, by a single process, since several processes do not know the
    positions of their samples.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(write_interval="batch")
        self.path = Path(path)
        self.rows_written = 0
        self._file: TextIOWrapper | None = None
        self._open = ExitStack()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "predict" and trainer.world_size > 1:
            raise MisconfigurationException(
                f"trainer.devices: predict writes its file from one process, not {trainer.world_size}. "
                "Use --trainer.devices 1."
            )

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rows_written = 0
        if is_dry_run(trainer):
            return
        try:
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self._open.enter_context(atomic_write(self.path))
        except OSError as error:
            raise MisconfigurationException(
                f"predict: {self.path} cannot be written ({error.strerror}). Set another file by --output."
            ) from error
        self._file = TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)

    def write_on_batch_end(self, trainer: Trainer, pl_module: LightningModule, prediction: Any, *_: Any) -> None:
        if self._file is None:
            return
        if isinstance(prediction, Tensor) and prediction.ndim:
            prediction = {"prediction": prediction}  # from a model that is not litlab's
        if not isinstance(prediction, dict) or not isinstance(prediction.get("prediction"), Tensor):
            raise MisconfigurationException(
                f"predict_step of {type(pl_module).__name__} must return a tensor (batch, ...) or a dict with the "
                f"tensor 'prediction' (optionally 'target', 'probabilities'), not {type(prediction).__name__}. "
                "Change the model."
            )
        names = getattr(getattr(trainer, "datamodule", None), "class_names", None)
        columns = _columns(prediction, names)
        writer = csv.writer(self._file)
        if self.rows_written == 0:
            writer.writerow(["sample", *columns])
        for values in zip(*columns.values(), strict=True):
            writer.writerow([self.rows_written, *values])
            self.rows_written += 1

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._open.close()
        self._file = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._open.__exit__(type(exception), exception, exception.__traceback__)  # removes the unfinished file
        self._file = None


def _columns(prediction: dict[str, Tensor], names: Sequence[str] | None) -> dict[str, list[str]]:
    """Return one text per sample of the batch, by column name."""
    probabilities = prediction.get("probabilities")
    classes = names if probabilities is not None and names and len(names) == probabilities.shape[1] else None
    columns: dict[str, list[str]] = {}
    for key in ("target", "prediction"):
        value = prediction.get(key)
        if value is None:
            continue
        if probabilities is not None and value.is_floating_point() and value.ndim == 2:
            value = value.argmax(dim=1)  # one-hot targets
        flat = value.reshape(value.shape[0], -1)
        keys = [key] if flat.shape[1] == 1 else [f"{key}_{index}" for index in range(flat.shape[1])]
        columns |= dict(zip(keys, map(_texts, flat.T), strict=True))
    for key in ("target", "prediction"):
        if classes is not None and key in columns:
            columns[f"{key}_name"] = [_as_text(classes[int(index)]) for index in columns[key]]
    if probabilities is not None and probabilities.ndim == 2:
        labels = classes or range(probabilities.shape[1])
        columns |= {f"p_{_one_line(label)}": _texts(p) for label, p in zip(labels, probabilities.T, strict=True)}
    return columns


def _one_line(name: object) -> str:
    """Return a name without line breaks and tabs; they are escaped, so that different names remain different."""
    return "".join(
        letter if letter.isprintable() and letter != "\\" else letter.encode("unicode_escape").decode("ascii")
        for letter in str(name)
    )


def _as_text(name: object) -> str:
    """Return a name that a spreadsheet shows as text: an apostrophe precedes the first sign of a formula."""
    text = _one_line(name)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _texts(values: Tensor) -> list[str]:
    """Return the shortest texts that a reader converts to the same numbers in their own precision."""
    if values.is_floating_point():
        numbers = values.detach().to(torch.promote_types(values.dtype, torch.float32))  # NumPy has no bfloat16
        return [str(number).removesuffix(".0") for number in numbers.cpu().numpy()]
    return [str(int(value)) for value in values.tolist()]

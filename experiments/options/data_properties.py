"""Data properties, such as the number of classes, that fill arguments of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import LitDataModule
from experiments.options.signatures import is_required, parameters
from lit_models import LitTask

DATA_PROPERTIES = ("input_shape", "num_classes", "num_targets", "vocab_size")


class DataPropertyLinks:
    """Links from the data properties to the model's arguments; `problem` is the first mismatch.

    `saved` returns the properties of the data that the run's weights were trained on, or None for a new run.
    """

    def __init__(self, saved: Callable[[], Mapping[str, Any] | None] = lambda: None) -> None:
        self.saved = saved
        self._prepared: LightningDataModule | None = None
        self.model: Any = None  # the class, known after parsing
        self.given: dict[str, Any] = {}  # properties that the user set
        self.problem: MisconfigurationException | None = None

    def reader(self, name: str) -> Callable[[LightningDataModule], Any]:
        """Return the function that jsonargparse calls with the data to get one property."""

        def read(data: LightningDataModule) -> Any:
            if self.problem is None:
                # Stored, not raised: jsonargparse would wrap the error in a message that prints the data.
                try:
                    self.prepare(data)
                    return self._checked(name, data)
                except MisconfigurationException as problem:
                    self.problem = problem
            return None

        return read

    def prepare(self, data: LightningDataModule) -> None:
        """Report missing files and data that does not fit the run before the model is built."""
        if isinstance(data, LitDataModule) and data is not self._prepared:
            data.prepare_data()
            if (saved := self.saved()) is not None:
                data.use_model_properties(saved)
            self._prepared = data

    def _checked(self, name: str, data: LightningDataModule) -> Any:
        """Return the property; raise an error if it does not fit the model or the user's value."""
        model, source = getattr(self.model, "__name__", "the model"), type(data).__name__
        value, accepted = getattr(data, name, None), parameters(self.model)
        classifies_samples = "num_classes" in accepted and "vocab_size" not in accepted
        if name == "num_classes" and classifies_samples and getattr(data, "vocab_size", None):
            raise MisconfigurationException(
                f"model: {model} predicts one class per sample, but {source} needs the next token at every position. "
                "Use LitTokenLSTM."
            )
        if value is None and (is_required(self.model, name) or (name in accepted and issubclass(self.model, LitTask))):
            raise MisconfigurationException(_missing(name, model, source, data))
        given = self.given.get(name)
        if given is not None and value is not None and _as_list(given) != _as_list(value):
            raise MisconfigurationException(
                f"model.{name} must be {value}, the {name} of {source}, got {given}. "
                f"Remove model.{name}: litlab takes it from the data."
            )
        return value


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _missing(name: str, model: str, source: str, data: LightningDataModule) -> str:
    """Return the message for a property that the model needs and the data does not have."""
    if name == "num_classes" and getattr(data, "num_targets", None):
        return (
            f"model: {model} is a classifier, but {source} has numbers to predict, not classes. "
            "Use a regressor such as LitLinearRegression or LitMLPRegressor, or data with classes."
        )
    if name == "num_targets" and getattr(data, "num_classes", None):
        return (
            f"model: {model} is a regressor, but {source} has classes to predict, not numbers. "
            "Use a classifier such as LitLogisticRegression or LitMLP, or data with numbers."
        )
    if name == "vocab_size":
        return f"model: {model} reads text, but {source} is not text. Use TextDataModule or another model."
    return f"model: {model} needs {name}, which {source} does not have. Add a property `{name}` to {source}."

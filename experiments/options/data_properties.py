"""Properties of the data that become arguments of the model, so that nobody types 784 or 10 twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import LitDataModule
from experiments.options.signatures import is_required, parameters
from lit_models import LitTask

DATA_PROPERTIES = ("input_shape", "num_classes", "num_targets", "vocab_size")


class DataPropertyLinks:
    """Links each property of the data to the model; stores the first one that does not fit as `problem`."""

    def __init__(self) -> None:
        self.model: Any = None  # class, known once the config is parsed
        self.given: dict[str, Any] = {}  # properties that the user set
        self.problem: MisconfigurationException | None = None  # the first one found

    def reader(self, fact: str) -> Callable[[LightningDataModule], Any]:
        """Return the function that jsonargparse calls with the data to fill one argument of the model."""

        def read(data: LightningDataModule) -> Any:
            if self.problem is not None:
                return None
            # Stored, not raised: jsonargparse would wrap it in a message of its own that prints the data.
            try:
                if isinstance(data, LitDataModule):  # finds the files quickly, and must fail before a model is built
                    data.prepare_data()
                value = getattr(data, fact, None)
                self._check(fact, value, data)
            except MisconfigurationException as problem:
                self.problem = self.problem or problem
                return None
            return value

        return read

    def _check(self, fact: str, value: Any, data: LightningDataModule) -> None:
        model, source = getattr(self.model, "__name__", "the model"), type(data).__name__
        accepted = parameters(self.model)
        if (
            fact == "num_classes"
            and fact in accepted
            and getattr(data, "vocab_size", None)
            and "vocab_size" not in accepted
        ):
            raise MisconfigurationException(
                f"model: {model} predicts one class per sample, but {source} needs the next token at every position. "
                "Use LitTokenLSTM."
            )
        needed = is_required(self.model, fact) or (fact in accepted and issubclass(self.model, LitTask))
        if value is None and needed:
            raise MisconfigurationException(_misfit(fact, model, source, data))
        given = self.given.get(fact)
        if given is not None and value is not None and _plain(given) != _plain(value):
            raise MisconfigurationException(
                f"model.{fact} must be {value}, the {fact} of {source}, got {given}. "
                f"Remove model.{fact}: it comes from the data."
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _misfit(fact: str, model: str, source: str, data: LightningDataModule) -> str:
    if fact == "num_classes" and getattr(data, "num_targets", None):
        return (
            f"model: {model} is a classifier, but {source} has numbers to predict, not classes. "
            "Use a regressor such as LitLinearRegression or LitMLPRegressor, or data with classes."
        )
    if fact == "num_targets" and getattr(data, "num_classes", None):
        return (
            f"model: {model} is a regressor, but {source} has classes to predict, not numbers. "
            "Use a classifier such as LitLogisticRegression or LitMLP, or data with numbers."
        )
    if fact == "vocab_size":
        return f"model: {model} reads text, but {source} is not text. Use TextDataModule or another model."
    return f"model: {model} needs {fact}, which {source} does not have. Add a property `{fact}` to {source}."

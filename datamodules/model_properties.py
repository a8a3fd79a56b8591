"""Data properties that a trained model depends on: stored with the run, and used instead of those of the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

_SHOWN = 10  # class names in a message
_FIX = "Use data that fits the model, or train a new run on this data with `litlab fit`."


class ModelProperties:
    """Base of datamodules whose properties are stored with a run, and restored before its model is used again.

    | properties          | with data that has others                    |
    |---------------------|----------------------------------------------|
    | `fixed_properties`  | litlab rejects the data                      |
    | `fitted_properties` | litlab uses those of the run                 |
    | `class_names`       | mapped to the order of the run, or rejected  |

    A subclass extends the first two with the names of its own attributes, whose values must be plain data.
    """

    fixed_properties: ClassVar[tuple[str, ...]] = ("target_kind", "input_shape", "num_targets")
    fitted_properties: ClassVar[tuple[str, ...]] = ()
    class_names: tuple[str, ...] | None
    num_classes: int | None
    _label_order: Tensor | None = None  # number of each class in the order of the run

    def model_properties(self) -> dict[str, Any]:
        """Return the properties to store, as plain data."""
        return {"data": type(self).__name__, **{name: _plain(getattr(self, name, None)) for name in self._names}}

    def use_model_properties(self, saved: Mapping[str, Any]) -> None:
        """Use the properties that a model was trained with; call it before `setup`.

        Raise an error if this data does not fit them. `saved` is empty for a run of litlab 0.1, which stored none.
        """
        names = saved.get("class_names")
        if not _is_names(names):
            raise MisconfigurationException(
                f"data: the class_names stored with the run are corrupted: {str(names)[:80]}. Restore the run folder."
            )
        same, source = saved.get("data") == type(self).__name__, saved.get("data", "the run's data")
        for name in saved.keys() - {"data", *self._names} if saved else ():
            raise MisconfigurationException(
                f"data: the model depends on `{name}` of {source}, which {self.source} does not use. {_FIX}"
            )
        if "class_names" not in self.fitted_properties:
            self._check_classes(names, saved.get("num_classes"))
        for name in self.fixed_properties:
            if saved.get(name) is not None and saved[name] != (own := _plain(getattr(self, name, None))):
                raise MisconfigurationException(
                    f"data: {name} of {self.source} is {own}, but the model was trained with {saved[name]}. {_FIX}"
                )
        for name in self.fitted_properties:
            if name in saved:
                setattr(self, name, _as_attribute(saved[name]))
            elif saved and not same:
                raise MisconfigurationException(
                    f"data: the model was trained without `{name}` on {source}, but {self.source} needs it. {_FIX}"
                )

    @property
    def source(self) -> str:
        """The name of the data in messages."""
        return type(self).__name__

    def use_class_order(self, names: tuple[str, ...]) -> None:
        """Number the classes in the order of these names, which are a permutation of `class_names`."""
        own = list(self.class_names or ())
        try:
            self.class_names = names
        except AttributeError as error:  # a property
            raise MisconfigurationException(
                f"data: the classes of {self.source} have another order ({_listed(own)}) than the model's "
                f"({_listed(names)}). {_FIX}"
            ) from error
        self._label_order = torch.tensor([names.index(name) for name in own])

    def in_class_order(self, targets: Tensor) -> Tensor:
        """Return loaded class numbers in the order of the run."""
        return targets if self._label_order is None else self._label_order.to(targets.dtype)[targets.long()]

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.fixed_properties, "num_classes", "class_names", *self.fitted_properties)))

    def _check_classes(self, names: Sequence[str] | None, number: Any) -> None:
        own = self.class_names
        if names is None or own is None:
            if number is not None and number != self.num_classes:
                raise MisconfigurationException(
                    f"data: {self.source} has {self.num_classes} classes, but the model knows {number}. {_FIX}"
                )
            if names is not None:
                self.class_names = tuple(names)  # by which predictions are written
            return
        unknown, missing = ([name for name in one if name not in other] for one, other in ((own, names), (names, own)))
        problems = [f"the model does not know {_listed(unknown)}"] * bool(unknown)
        problems += [f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing"] * bool(missing)
        if problems:
            raise MisconfigurationException(
                f"data: the classes of {self.source} do not fit the model: {' and '.join(problems)}. {_FIX}"
            )
        if tuple(own) != tuple(names):
            self.use_class_order(tuple(names))


def _is_names(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _listed(names: Iterable[str]) -> str:
    texts = [str(name) for name in names]
    return ", ".join(texts[:_SHOWN]) + (", ..." if len(texts) > _SHOWN else "")


def _plain(value: Any) -> Any:
    """Return tuples and tensors as lists, as JSON files and checkpoints store them."""
    value = value.tolist() if isinstance(value, Tensor) else value
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _as_attribute(value: Any) -> Any:
    return tuple(_as_attribute(item) for item in value) if isinstance(value, list) else value

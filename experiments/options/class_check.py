"""Lookup of the classes that a config names, and checks of their arguments."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch import callbacks as lightning_callbacks

import callbacks
import datamodules
import lit_models
from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean, one_line
from experiments.options.catalog import classes
from experiments.options.data_properties import DATA_PROPERTIES
from experiments.options.signatures import accepts_any, is_required, parameters


class _Section(NamedTuple):
    """The classes that one section of a config accepts; `kind` is the argument of `litlab list`."""

    base: type
    packages: tuple[ModuleType, ...]  # class names are found here without an import path
    kind: str
    noun: str


_SECTIONS = {
    "model": _Section(LightningModule, (lit_models,), "models", "model"),
    "data": _Section(LightningDataModule, (datamodules,), "data", "data"),
    "trainer.callbacks": _Section(Callback, (callbacks, lightning_callbacks), "callbacks", "callback"),
}
_IMPORT_HINT = "Install it, or run litlab in the folder that contains it."


def find_class(path: Any, section: str) -> Any:
    """Return the class with this name or import path; raise a UserError if it is not a class for the section."""
    accepted = _SECTIONS.get(section)
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        listing = f"`litlab list {accepted.kind}`" if accepted else "`litlab list`"
        raise UserError(
            f"{section}: '{path}' is not a class. Use a name ({listing}) or an import path such as my_module.MyClass."
        )
    if accepted is None:
        return _import_class(path, section) if "." in path else None
    base = accepted.base
    found = _import_class(path, section) if "." in path else _find_by_name(path, accepted)
    if not (isinstance(found, type) and issubclass(found, base)) and not _returns(found, base):
        raise UserError(f"{section}: '{path}' is not a {base.__name__}. Name a class that derives from it.")
    return found


def _returns(found: Any, base: type) -> bool:
    """Return True for a function whose return annotation is the class; jsonargparse accepts these too."""
    returned = inspect.signature(found).return_annotation if inspect.isroutine(found) else None
    return isinstance(returned, type) and issubclass(returned, base)


def _find_by_name(name: str, section: _Section) -> Any:
    candidates = [getattr(package, name, None) for package in section.packages]
    candidates += [cls for cls in _subclasses(section.base) if cls.__name__ == name]
    for found in candidates:
        if found is not None:
            return found
    known = [entry.name for entry in classes(section.kind)]
    if section.kind == "callbacks":
        known += [other for other in lightning_callbacks.__all__ if other[0].isupper()]
    raise UserError(
        f"{section.noun}: unknown class '{name}'.{did_you_mean(name, known)} Use a name from "
        f"`litlab list {section.kind}`, or the import path of your own class, such as my_module.MyClass."
    )


def _subclasses(base: type) -> list[type]:
    found: list[type] = base.__subclasses__()
    return [*found, *(inner for cls in found for inner in _subclasses(cls))]


def _import_class(path: str, section: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{section}: '{path}' cannot be imported: {one_line(str(error))}. {_IMPORT_HINT}") from error
    if not hasattr(imported, name):
        hint = did_you_mean(name, vars(imported)) or f" {_IMPORT_HINT}"
        raise UserError(f"{section}: '{path}' cannot be imported: {module} has no '{name}'.{hint}")
    return getattr(imported, name)


def check_arguments(entry: Any, section: str) -> None:
    """Raise a UserError if an argument of the class is unknown, or a required one is missing."""
    if not isinstance(entry, (str, Mapping)):  # an object from Python
        return
    form = {"class_path": entry} if isinstance(entry, str) else entry
    cls = find_class(form.get("class_path"), section)
    misplaced = [name for name in form if name not in ("class_path", "init_args", "dict_kwargs")]
    if misplaced:
        raise UserError(f"{section}: '{misplaced[0]}' must be under `init_args:`, not next to `class_path:`. Move it.")
    given, known = form.get("init_args") or {}, parameters(cls)
    name = getattr(cls, "__name__", "")
    if not known or not isinstance(given, Mapping):
        return
    for argument in given:
        if argument not in known and not accepts_any(cls):
            raise UserError(
                f"{section}: {name} has no argument '{argument}'.{did_you_mean(argument, known)} "
                f"It takes {', '.join(known)}."
            )
    for argument in known:
        from_data = section == "model" and argument in DATA_PROPERTIES
        if argument not in given and not from_data and is_required(cls, argument):
            raise UserError(f"{section}: {name} needs {argument}. Set --{section}.{argument} VALUE.")

"""Finding the classes that a config names, and checking the arguments given to them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule

import callbacks
import datamodules
import lit_models
from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean, one_line
from experiments.options.catalog import classes
from experiments.options.data_properties import DATA_PROPERTIES
from experiments.options.signatures import accepts_any, is_required, parameters

_BASES = {"model": LightningModule, "data": LightningDataModule, "trainer.callbacks": Callback}
_PACKAGES = {"model": lit_models, "data": datamodules, "trainer.callbacks": callbacks}
_KINDS = {"model": ("models", "model"), "data": ("data", "data"), "trainer.callbacks": ("callbacks", "callback")}

_WAY_OUT = "Install it, or run litlab in the folder that contains it."


def find_class(path: Any, section: str) -> Any:
    """Return the class with this name or import path; raise a user error if there is none of the right kind."""
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        kind = _KINDS.get(section, ("", ""))[0]
        raise UserError(
            f"{section}: '{path}' is not a class. Use a name (`litlab list {kind}`) or an import path such as "
            "my_module.MyClass."
        )
    if section not in _BASES:
        return _imported(path, section) if "." in path else None
    base = _BASES[section]
    found = _imported(path, section) if "." in path else _by_short_name(path, section)
    if not (isinstance(found, type) and issubclass(found, base)) and not _returns(found, base):
        raise UserError(f"{section}: '{path}' is not a {base.__name__}. Name a class that derives from it.")
    return found


def _returns(found: Any, base: type) -> bool:
    """Return True for a function annotated to return the class, which jsonargparse accepts too."""
    if not inspect.isroutine(found):
        return False
    returned = inspect.signature(found).return_annotation
    return isinstance(returned, type) and issubclass(returned, base)


def _by_short_name(name: str, section: str) -> Any:
    import lightning.pytorch.callbacks as lightning_callbacks

    found: Any = getattr(_PACKAGES[section], name, None)
    if found is None and section == "trainer.callbacks":
        found = getattr(lightning_callbacks, name, None)
    if found is None:
        found = next((cls for cls in _subclasses(_BASES[section]) if cls.__name__ == name), None)
    if found is not None:
        return found
    kind, what = _KINDS[section]
    known = [entry.name for entry in classes(kind)]
    if section == "trainer.callbacks":
        known += [other for other in lightning_callbacks.__all__ if other[0].isupper()]
    raise UserError(
        f"{what}: unknown class '{name}'.{did_you_mean(name, known)} `litlab list {kind}` shows all; name a class of "
        "your own by its import path, such as my_module.MyClass."
    )


def _subclasses(base: type) -> list[type]:
    found: list[type] = base.__subclasses__()
    return [*found, *(inner for cls in found for inner in _subclasses(cls))]


def _imported(path: str, section: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{section}: '{path}' cannot be imported: {one_line(str(error))}. {_WAY_OUT}") from error
    if not hasattr(imported, name):
        hint = did_you_mean(name, vars(imported)) or f" {_WAY_OUT}"
        raise UserError(f"{section}: '{path}' cannot be imported: {module} has no '{name}'.{hint}")
    return getattr(imported, name)


def check_arguments(entry: Any, section: str) -> None:
    """Raise for an argument that the class does not have, and for a required one that is missing."""
    if not isinstance(entry, (str, Mapping)):  # an object from Python
        return
    form = {"class_path": entry} if isinstance(entry, str) else entry
    cls = find_class(form.get("class_path"), section)
    beside = [name for name in form if name not in ("class_path", "init_args", "dict_kwargs")]
    if beside:
        raise UserError(f"{section}: '{beside[0]}' must be under `init_args:`, not next to `class_path:`.")
    given, known = form.get("init_args") or {}, parameters(cls)
    name = getattr(cls, "__name__", "")
    if not known or not isinstance(given, Mapping):
        return
    for argument in given:
        if argument not in known and not accepts_any(cls):
            takes = f" It takes {', '.join(known)}." if known else ""
            raise UserError(f"{section}: {name} has no argument '{argument}'.{did_you_mean(argument, known)}{takes}")
    linked = DATA_PROPERTIES if section == "model" else ()
    for argument in known:
        if argument not in given and argument not in linked and is_required(cls, argument):
            raise UserError(f"{section}: {name} needs {argument}. Set --{section}.{argument} VALUE.")

"""Imports of litlab's packages next to packages of a project that have the same names.

A project may have folders named `callbacks` or `experiments`, with or without `__init__.py`. After `claim_names()`:

- `import callbacks` imports litlab's package for any order of `sys.path`.
- `callbacks.my_callback` is a module in the project's folder.
- `callbacks.MyCallback` is defined in the project's `callbacks/__init__.py`, and `lit_models.cnn.MyNet` in its
  `lit_models/cnn.py`, unless litlab's module has that name. The project's file runs at the first access to a name that
  its text contains, which excludes the names that `from .x import *` imports.
- `callbacks.gradients` is the module that is now `callbacks.network.gradients`. Config files of earlier runs use it.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from pkgutil import extend_path
from types import ModuleType
from typing import Any

HOME = Path(__file__).resolve().parents[1]
NAMES = ("experiments", "lit_models", "datamodules", "callbacks", "configs")
# Modules that moved under another name. `_MovedModules` finds those with the same name in the folders of the package.
_RENAMED = {
    "callbacks.failure": "callbacks.guards.finite_loss",
    "callbacks.summary": "callbacks.network.model_table",
    "callbacks.whole_files": "callbacks.checkpoints.atomic_files",
    "datamodules.images": "datamodules.pixels",
}
_PROJECT = "project's "  # prefix in `sys.modules` for a module of the project that has the name of litlab's


def claim_names() -> None:
    """Let the names of litlab's packages refer to litlab, and add the modules of the project to these packages."""
    if not any(isinstance(finder, _OwnModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OwnModules())
        sys.meta_path.append(_MovedModules())
    for name in NAMES:
        if name in sys.modules and not _is_own(name):
            _displace(name)
    for full in list(sys.modules):
        if full.partition(".")[0] in NAMES and full.count(".") < 2 and _is_own(full):
            _add_project(sys.modules[full])


def leave_folder(folder: str) -> None:
    """Remove working folders that Python cannot import anymore from the search paths of the packages."""
    for name in NAMES:
        path = getattr(sys.modules.get(name), "__path__", [])
        path[:] = [entry for entry in path if Path(entry).parent != Path(folder) or Path(folder) == HOME]


class _OwnModules(MetaPathFinder):
    """Finder of litlab's packages and the modules directly in them, with priority over others of the same names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, module = fullname.partition(".")
        if package not in NAMES or "." in module:
            return None
        spec = PathFinder.find_spec(fullname, [str(HOME / package if module else HOME)])
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        spec.loader = _OwnLoader(fullname, str(spec.loader.path))
        return spec


class _OwnLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _add_project(module)


class _MovedModules(MetaPathFinder):
    """Finder of litlab's modules under their former names, for names that no other module has."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package not in NAMES or not name.isidentifier():
            return None
        files = list((HOME / package).glob(f"*/{name}.py"))
        moved = f"{package}.{files[0].parent.name}.{name}" if len(files) == 1 else None
        current = _RENAMED.get(fullname, moved)
        return spec_from_loader(fullname, _Alias(current)) if current else None


class _Alias(Loader):
    """Loader that copies the names of the module `current` into a module."""

    def __init__(self, current: str) -> None:
        self.current = current

    def exec_module(self, module: ModuleType) -> None:
        found = vars(importlib.import_module(self.current))
        vars(module).update({name: value for name, value in found.items() if not name.startswith("__")})


def _is_own(full: str) -> bool:
    file = getattr(sys.modules[full], "__file__", None)
    return isinstance(file, str) and Path(file).resolve().is_relative_to(HOME / full.partition(".")[0])


def _add_project(module: ModuleType) -> None:
    """Add the attributes of the project's module to litlab's, which has priority."""
    if module.__name__ in NAMES:
        module.__path__[:] = extend_path(module.__path__, module.__name__)
    vars(module)["__getattr__"] = partial(_project_attribute, module.__name__)


def _displace(name: str) -> None:
    """Rename the modules of a project's package that was imported before, so that their attributes stay available."""
    for full in [full for full in sys.modules if full == name or full.startswith(f"{name}.")]:
        own = HOME.joinpath(*full.split("."))
        if own.is_dir() or own.with_suffix(".py").is_file():
            sys.modules[_PROJECT + full] = sys.modules.pop(full)


def _project_attribute(name: str, attribute: str) -> Any:
    """Return an attribute of the project's module of that name."""
    module = None if attribute.startswith("_") else sys.modules.get(_PROJECT + name) or _load_project(name, attribute)
    if module is None or not hasattr(module, attribute):
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
    return getattr(module, attribute)


def _load_project(name: str, attribute: str) -> ModuleType | None:
    """Run the project's module of that name and return it; None if it does not exist or does not name the attribute.

    The text is searched first, because jsonargparse looks up many names in every package.
    """
    parent = name.rpartition(".")[0]
    folders = sys.modules[parent].__path__ if parent else sys.path
    spec = PathFinder.find_spec(name, [entry for entry in folders if Path(entry).resolve() != HOME / parent])
    if spec is None or not isinstance(spec.loader, SourceFileLoader):
        return None
    if not re.search(rf"\b{re.escape(attribute)}\b", spec.loader.get_source(name) or ""):
        return None
    sys.modules[_PROJECT + name] = module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_PROJECT + name]
        raise
    return module

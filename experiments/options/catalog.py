"""Catalog of the shipped configs and classes, read from the source files. Does not import torch."""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass
from pathlib import Path

from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean, one_line, say

PACKAGES = {"models": "lit_models", "data": "datamodules", "callbacks": "callbacks"}


@dataclass(frozen=True)
class Entry:
    """A config or class: its name, the first sentence about it, and its file."""

    name: str
    summary: str
    path: Path


def package_folder(package: str) -> Path:
    """Return the folder of one of litlab's packages, whatever the working folder contains."""
    return Path(__file__).resolve().parents[2] / package


def _public(folder: Path) -> set[str]:
    for node in ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    return set()


def classes(kind: str) -> list[Entry]:
    """Return the public classes of a kind (`models`, `data` or `callbacks`), without base classes and errors."""
    folder = package_folder(PACKAGES[kind])
    public = _public(folder)
    prefix, suffix = {"models": ("Lit", ""), "data": ("", "DataModule"), "callbacks": ("", "")}[kind]
    found: dict[str, Entry] = {}
    bases: set[str] = set()
    for path in sorted(folder.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                direct = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                bases |= direct
                if direct & {"Exception", "RuntimeError"}:
                    continue
                if node.name in public and node.name.startswith(prefix) and node.name.endswith(suffix):
                    summary = (ast.get_docstring(node) or "").split("\n\n")[0]
                    found[node.name] = Entry(node.name, " ".join(summary.split()), path)
    return [found[name] for name in sorted(found) if name not in bases]


def configs() -> list[Entry]:
    """Return the shipped configs; the summary is the first line of the file, a comment."""
    found = []
    for path in sorted(package_folder("configs").glob("*.yaml")):
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        found.append(Entry(path.stem, first.lstrip("# ").strip(), path))
    return found


def find_config(name: str) -> Path:
    """Return the file of a config given by its path, its run folder, or the name of a shipped config.

    A file in the working folder takes precedence over a shipped config, and litlab reports this.
    """
    shipped = {entry.name: entry.path for entry in configs()}
    for candidate in (Path(name), Path(f"{name}.yaml"), Path(f"{name}.yml")):
        if os.path.isfile(candidate):  # False for an overlong name, for which Path.is_file raises an error
            if name in shipped and candidate.resolve() != shipped[name].resolve():
                say(f"config: using {candidate} of this folder, not the shipped '{name}'.")
            return candidate
    if name in shipped:
        return shipped[name]
    if os.path.isdir(name) and (Path(name) / "config.yaml").is_file():
        return Path(name) / "config.yaml"
    raise UserError(
        f"config: '{one_line(name, 100)}' is neither a file nor a shipped config.{did_you_mean(name, shipped)} "
        "Pass a file or a name from `litlab list configs`."
    )

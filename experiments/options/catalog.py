"""Names that the command line accepts, read from the sources without importing them (and so without torch)."""

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
    """A name, its first sentence, and the file that defines it."""

    name: str
    summary: str
    path: Path


def package_folder(package: str) -> Path:
    """Return the folder of one of litlab's packages, next to this one, independent of the working folder."""
    return Path(__file__).resolve().parents[2] / package


def _public(folder: Path) -> set[str]:
    for node in ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    return set()


def classes(kind: str) -> list[Entry]:
    """Return the public classes of one kind: `models`, `data` or `callbacks`."""
    folder = package_folder(PACKAGES[kind])
    public = _public(folder)
    prefix, suffix = {"models": ("Lit", ""), "data": ("", "DataModule"), "callbacks": ("", "")}[kind]
    found: dict[str, Entry] = {}
    bases: set[str] = set()  # a class that others derive from carries what they share; nobody types its name
    for path in sorted(folder.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                own = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                bases |= own
                if own & {"Exception", "RuntimeError"}:  # errors are not typed by name
                    continue
                if node.name in public and node.name.startswith(prefix) and node.name.endswith(suffix):
                    summary = (ast.get_docstring(node) or "").split("\n\n")[0]
                    found[node.name] = Entry(node.name, " ".join(summary.split()), path)
    return [found[name] for name in sorted(found) if name not in bases]


def configs() -> list[Entry]:
    """Return the shipped configs; the summary is the first comment of the file."""
    found = []
    for path in sorted(package_folder("configs").glob("*.yaml")):
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        found.append(Entry(path.stem, first.lstrip("# ").strip(), path))
    return found


def find_config(word: str) -> Path:
    """Return the file of a config argument: a path, or the name of a shipped config.

    A file in the working folder beats a shipped name, with a message.
    """
    shipped = {entry.name: entry.path for entry in configs()}
    for candidate in (Path(word), Path(f"{word}.yaml"), Path(f"{word}.yml")):
        if os.path.isfile(candidate):  # unlike pathlib's, false for a name that is too long
            if word in shipped and candidate.resolve() != shipped[word].resolve():
                say(f"config: using {candidate} of this folder, not the shipped '{word}'.")
            return candidate
    if word in shipped:
        return shipped[word]
    if os.path.isdir(word) and (Path(word) / "config.yaml").is_file():
        return Path(word) / "config.yaml"
    raise UserError(
        f"config: '{one_line(word, 100)}' is neither a file nor a shipped config.{did_you_mean(word, shipped)} "
        "`litlab list configs` shows all."
    )

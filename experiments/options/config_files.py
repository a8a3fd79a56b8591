"""Reading config files as plain data. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.messages.errors import UserError
from experiments.messages.formatting import one_line

_SECTIONS = {
    "model": "a class, or `class_path:` and `init_args:`",
    "data": "a class, or `class_path:` and `init_args:`",
    "trainer": "options such as `max_epochs: 5`",
}


class Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a number and rejects duplicate keys and an alias inside its own anchor."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.open: list[Any] = []

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent) and anchor in self.open:
            raise yaml.MarkedYAMLError(None, None, f"'*{anchor}' is inside what it names", event.start_mark)  # type: ignore[arg-type]
        self.open.append(anchor)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.open.pop()
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[Hashable] = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name in seen:
                raise yaml.MarkedYAMLError(None, None, f"'{key.value}' is there twice, keep one", key.start_mark)
            seen.add(name)
        return node


# YAML 1.1 asks for a dot in 1.0e-3; jsonargparse reads 1e-3 as a number too. Dates stay text.
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_config(path: Path, within: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a config file; `within` are the files that include this one. Raise UserError naming file and line."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except yaml.YAMLError as error:
        raise UserError(f"config: {path} is not valid YAML: {_reason(error)}. Fix the syntax there.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"config: {path} is not UTF-8 text (byte {error.start} is invalid). Save it as UTF-8 or pass another file."
        ) from error
    except OSError as error:
        raise UserError(f"config: {path} cannot be read ({error.strerror}). Pass another file.") from error
    except Exception as error:  # PyYAML raises anything on `!!bool maybe`
        raise UserError(f"config: {path} has a value that YAML cannot read ({error}). Fix the value.") from error
    if not isinstance(content, dict):
        raise UserError(f"config: {path} is not a mapping. It must have keys such as `model:` and `data:`.")
    for name in content:
        if not isinstance(name, str):
            raise UserError(f"config: key {name!r} in {path} must be a word, like `model`. Remove or rename it.")
    for section in _SECTIONS:
        if section in content:
            content[section] = read_section(content[section], section, path, within)
    return content


def read_section(part: Any, section: str, path: Path, within: tuple[Path, ...] = ()) -> Any:
    """Return the content of `model`, `data` or `trainer`, which may be in a file of its own, next to `path`."""
    if part is None:
        raise UserError(f"config: `{section}:` in {path} is empty. Fill it in or remove it.")
    if isinstance(part, str) and part.endswith((".yaml", ".yml")):
        return _included(part, section, path, within)
    if isinstance(part, str) and section != "trainer":
        return part
    if not isinstance(part, dict):
        raise UserError(f"config: `{section}:` in {path} must be {_SECTIONS[section]}, got {part!r}.")
    if section != "trainer":
        _check_init_args(part, f"`{section}:`", path)
        return part
    for name in ("callbacks", "callbacks+"):
        entries = part.get(name)
        for entry in entries if isinstance(entries, list) else []:
            named = entry.get("class_path") if isinstance(entry, dict) else entry
            if not isinstance(named, str):
                raise UserError(f"config: {entry} in trainer.callbacks of {path} names no class. Add `class_path:`.")
            _check_init_args(entry, f"{named} in trainer.callbacks", path)
    return part


def read_value(text: str, name: str) -> Any:
    """Read the text of an option as YAML."""
    try:
        return yaml.load(text, Loader)
    except Exception as error:  # PyYAML raises anything on `!!bool maybe`
        raise UserError(f"{name}: '{one_line(text, 100)}' is not valid YAML. Check brackets and quotes.") from error


def _included(part: str, section: str, path: Path, within: tuple[Path, ...]) -> dict[str, Any]:
    included = path.parent / part
    if not included.is_file():
        raise UserError(
            f"config: `{section}: {part}` in {path}: the file does not exist. Write its path relative to {path}."
        )
    if any(included.samefile(other) for other in (*within, path) if other.is_file()):
        raise UserError(f"config: {path} includes itself by `{section}: {part}`. Name a file with only the {section}.")
    return read_config(included, (*within, path))


def _check_init_args(part: Any, what: str, path: Path) -> None:
    arguments = part.get("init_args", {}) if isinstance(part, Mapping) else {}
    if not isinstance(arguments, dict):
        given = "is empty" if arguments is None else f"is {arguments!r}"
        raise UserError(f"config: `init_args:` of {what} in {path} {given}. Add arguments below it, or remove it.")


def _reason(error: yaml.YAMLError) -> str:
    """Return the problem and its line."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    text = ", ".join(part for part in (error.context, error.problem) if part)
    return f"line {mark.line + 1}: {text}" if mark is not None else text

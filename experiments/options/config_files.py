"""Reads config files as plain data, and says where one is no config."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities.exceptions import MisconfigurationException

_SECTIONS = {
    "model": "a class, or `class_path:` and `init_args:` below it",
    "data": "a class, or `class_path:` and `init_args:` below it",
    "trainer": "lines such as `max_epochs: 5` below it",
}


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML itself keeps the last without a word.

    Refuses also an alias within what it names: that has no end.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.open: list[Any] = []

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        anchor = getattr(event, "anchor", None)
        refers = isinstance(event, yaml.AliasEvent)
        if refers and anchor in self.open:
            raise yaml.MarkedYAMLError(None, None, f"'*{anchor}' stands within what it names", event.start_mark)
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


def read_config(path: Path, within: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A config file as plain data; only a mapping is one. `within` are the files that include this one."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        raise MisconfigurationException(
            f"config: {path} is not valid YAML: {_reason(error)}. Mend it there."
        ) from error
    except UnicodeDecodeError as error:
        raise MisconfigurationException(
            f"config: {path} is no text in UTF-8 (byte {error.start} does not fit). Save it as UTF-8, or give "
            "another file."
        ) from error
    except OSError as error:
        raise MisconfigurationException(
            f"config: {path} cannot be read ({error.strerror}). Give another file."
        ) from error
    except Exception as error:  # PyYAML raises anything on 2024-13-01 or `!!bool maybe`
        raise MisconfigurationException(
            f"config: {path} holds a value that YAML cannot read ({error}). Mend it there."
        ) from error
    if not isinstance(content, dict):
        raise MisconfigurationException(
            f"config: {path} holds no settings; expected lines such as `model:` and `data:`."
        )
    for name in content:
        if not isinstance(name, str):
            raise MisconfigurationException(
                f"config: '{name}' in {path} is not a setting; those are words, like `model`."
            )
    for section, expected in _SECTIONS.items():
        if section in content:
            content[section] = _section(content[section], section, expected, path, within)
    return content


def _section(part: Any, section: str, expected: str, path: Path, within: tuple[Path, ...]) -> Any:
    """The content of a section, which may stand in a file of its own."""
    if part is None:
        raise MisconfigurationException(f"config: `{section}:` in {path} is empty; fill it or take it out.")
    if isinstance(part, str) and part.endswith((".yaml", ".yml")):
        included = path.parent / part
        if not included.is_file():
            raise MisconfigurationException(
                f"config: `{section}: {part}` in {path} names a file that is not there. Give its place as "
                f"seen from {path}."
            )
        if any(included.samefile(other) for other in (*within, path)):
            raise MisconfigurationException(
                f"config: {path} includes itself by `{section}: {part}`. Name a file that holds the {section} alone."
            )
        return read_config(included, (*within, path))
    if isinstance(part, str) and section != "trainer":
        return part
    if not isinstance(part, dict):
        raise MisconfigurationException(f"config: `{section}:` in {path} is {part!r}; expected {expected}.")
    if section == "trainer":
        for name in ("callbacks", "callbacks+"):
            entries = part.get(name)
            for entry in entries if isinstance(entries, list) else []:
                named = entry.get("class_path") if isinstance(entry, dict) else entry
                if not isinstance(named, str):
                    raise MisconfigurationException(
                        f"config: {entry} among trainer.callbacks in {path} names no class; begin it by `class_path:`."
                    )
                _check_settings(entry, f"one of trainer.callbacks, {named},", path)
    else:
        _check_settings(part, f"`{section}:`", path)
    return part


def _check_settings(part: Any, what: str, path: Path) -> None:
    settings = part.get("init_args", {}) if isinstance(part, dict) else {}
    if not isinstance(settings, dict):
        given = "is empty" if settings is None else f"is {settings!r}"
        raise MisconfigurationException(
            f"config: `init_args:` of {what} in {path} {given}; write settings below it, or take it out."
        )


def _reason(error: yaml.YAMLError) -> str:
    """What is wrong and in which line."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    words = ", ".join(text for text in (error.context, error.problem) if text)
    return f"line {mark.line + 1}: {words}" if mark is not None else words

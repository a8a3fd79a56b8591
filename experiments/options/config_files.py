"""Reader of config files. Does not import torch."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.messages.errors import UserError
from experiments.messages.formatting import one_line

_MOST_VALUES = 100_000  # in a config
_SECTIONS = {
    "model": "a class, or `class_path:` and `init_args:`",
    "data": "a class, or `class_path:` and `init_args:`",
    "trainer": "options such as `max_epochs: 5`",
}


class Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a number and rejects duplicate keys."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _expanded_size(node, {})
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[Hashable] = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name in seen:
                raise yaml.MarkedYAMLError(None, None, f"'{key.value}' is a duplicate key, keep one", key.start_mark)
            seen.add(name)
        return node


# YAML 1.1 requires the dot in 1.0e-3; jsonargparse reads 1e-3 as a number too. Dates stay text.
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FLOAT = re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)[eE][-+]?\d+$")
Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


class Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which `Loader` would read as a number, such as '1e3'."""


Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def dump_yaml(content: Any, **options: Any) -> str:
    """Return the content as YAML text that `load_yaml` reads as the same content, with the keys in their order."""
    text: str = yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True, **options)
    return text


def _expanded_size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return the number of values below a node, where each alias counts as a copy; raise an error if it is too large.

    A few lines with aliases of aliases can stand for billions of values. An alias in its own anchor never ends.
    """
    if id(node) not in sizes:
        sizes[id(node)] = _MOST_VALUES + 1  # until the values below it are counted
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        sizes[id(node)] = 1 + sum(_expanded_size(child, sizes) for child in children)
    if sizes[id(node)] > _MOST_VALUES:
        problem = f"its aliases stand for more than {_MOST_VALUES:,} values, or contain themselves"
        raise yaml.MarkedYAMLError(None, None, problem, node.start_mark)
    return sizes[id(node)]


def load_yaml(text: str) -> Any:
    """Return the content of YAML text; raise yaml.YAMLError for one that would fill the memory."""
    return yaml.load(text, Loader)


def read_config(path: Path, within: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the content of a config file; `within` has the files that include it.

    Raise a UserError that names the file and the line if it is not a valid config.
    """
    try:
        content = load_yaml(_read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"config: {path} is not valid YAML: {_reason(error)}. Fix the syntax on that line.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"config: {path} is not UTF-8 text (byte {error.start} is invalid). Save it as UTF-8 or pass another file."
        ) from error
    except OSError as error:
        raise UserError(f"config: {path} cannot be read ({error.strerror}). Pass another file.") from error
    except Exception as error:  # PyYAML raises errors of other types, for example for `!!bool maybe`
        raise UserError(f"config: {path} has an invalid value ({error}). Fix the value.") from error
    if not isinstance(content, dict):
        raise UserError(f"config: {path} is not a mapping. Add keys such as `model:` and `data:`.")
    for name in content:
        if not isinstance(name, str):
            raise UserError(f"config: key {name!r} in {path} must be text, such as `model`. Remove or rename it.")
    for section in _SECTIONS:
        if section in content:
            content[section] = read_section(content[section], section, path, within)
    return content


def _read_text(path: Path) -> str:
    """Return the text of a file; a named pipe would block, unless the shell made it for `<(...)`."""
    if path.is_fifo() and not str(path).startswith(("/dev/", "/proc/")):
        raise OSError(0, "it is a named pipe")
    return path.read_text(encoding="utf-8")


def read_section(content: Any, section: str, path: Path, within: tuple[Path, ...] = ()) -> Any:
    """Return the checked content of `model`, `data` or `trainer`; read it from another file if it is a file name."""
    if content is None:
        raise UserError(f"config: `{section}:` in {path} is empty. Fill it in or remove it.")
    if isinstance(content, str) and content.endswith((".yaml", ".yml")):
        return _read_included(content, section, path, within)
    if isinstance(content, str) and section != "trainer":
        return content
    if not isinstance(content, dict):
        raise UserError(
            f"config: `{section}:` in {path} must be {_SECTIONS[section]}, got {content!r}. Change or remove it."
        )
    if section != "trainer":
        _check_init_args(content, f"`{section}:`", path)
        return content
    for entries in (content.get("callbacks"), content.get("callbacks+")):
        for entry in entries if isinstance(entries, list) else []:
            class_path = entry.get("class_path") if isinstance(entry, dict) else entry
            if not isinstance(class_path, str):
                raise UserError(f"config: {entry} in trainer.callbacks of {path} names no class. Add `class_path:`.")
            _check_init_args(entry, f"{class_path} in trainer.callbacks", path)
    return content


def read_value(text: str, name: str) -> Any:
    """Return the text of an option parsed as YAML."""
    try:
        return load_yaml(text)
    except Exception as error:  # PyYAML raises errors of other types, for example for `!!bool maybe`
        raise UserError(f"{name}: '{one_line(text, 100)}' is not valid YAML. Fix the brackets or quotes.") from error


def _read_included(name: str, section: str, path: Path, within: tuple[Path, ...]) -> dict[str, Any]:
    included = path.parent / name
    if not included.is_file():
        raise UserError(
            f"config: `{section}: {name}` in {path}: the file does not exist. Set a path relative to {path}."
        )
    if any(included.samefile(other) for other in (*within, path) if other.is_file()):
        raise UserError(f"config: {path} includes itself by `{section}: {name}`. Set a file with only the {section}.")
    return read_config(included, (*within, path))


def _check_init_args(form: Any, what: str, path: Path) -> None:
    arguments = form.get("init_args", {}) if isinstance(form, Mapping) else {}
    if not isinstance(arguments, dict):
        given = "is empty" if arguments is None else f"is {arguments!r}"
        raise UserError(f"config: `init_args:` of {what} in {path} {given}. Add arguments, or remove it.")


def _reason(error: yaml.YAMLError) -> str:
    """Return the line and the problem."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    text = ", ".join(part for part in (error.context, error.problem) if part)
    return f"line {mark.line + 1}: {text}" if mark is not None else text

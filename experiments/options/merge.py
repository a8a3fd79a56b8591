"""Config files and options merged into one nested mapping, with every key checked.

Later files override earlier ones, and options override files at any position. Short forms are written out:
`--model.hidden` becomes `model: {init_args: {hidden: ...}}`. The text of an option stays text, because jsonargparse
reads it by the type of its argument; only text inside a mapping or list is read as YAML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean, say
from experiments.options.class_check import check_arguments, find_class
from experiments.options.config_files import read_config, read_section, read_value
from experiments.options.request import Given, Request
from experiments.options.run_options import RunOptions
from experiments.options.signatures import default_of, parameters, types_of
from lit_models import LitTask

SECTIONS = ("model", "data", "trainer")
# Arguments of litlab's models that take a name with arguments: `--model.optimizer sgd --model.optimizer.lr 0.1`.
NAMED_COMPONENTS = ("optimizer", "scheduler", "loss", "init", "activation")
_CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")
# Options that `read_request` takes itself; an unknown option may be a misspelling of one.
_READ_BEFORE = ("config", "print_config", "debug", "help", "help-all")


def merge(request: Request, trainer_class: type) -> dict[str, Any]:
    """Return the mapping for the parser; raise a user error at the first key, class or file that does not fit."""
    merged: dict[str, Any] = {}
    known = [field.name for field in fields(RunOptions)] + ["seed_everything", *SECTIONS]
    for path in request.configs:
        document = read_config(path)
        _check_keys(document, known, f"{path}: ", "", "key")
        _add_document(merged, document, path)
    own = [option.name for option in request.command.options]
    trainer_arguments = parameters(trainer_class)
    for given in sorted(request.given, key=lambda given: _rank(given.name)):
        _check_option(given.name, [*known, *own], trainer_arguments)
        _set(merged, given)
    trainer = merged.get("trainer") or {}
    _check_keys(trainer, trainer_arguments, "", "trainer.", "key")
    if request.actions:
        return merged
    for section in ("model", "data"):
        if section not in merged:
            raise UserError(
                f"{section} is missing. Name one by `{section}:` in the config or by --{section} NAME; `litlab list` "
                "shows all."
            )
        check_arguments(merged[section], section)
    for entry in _as_list(trainer.get("callbacks")):
        check_arguments(entry, "trainer.callbacks")
    return merged


def _check_keys(found: Mapping[str, Any], known: list[str], where: str, prefix: str, kind: str) -> None:
    for name in found:
        if name.removesuffix("+") not in known:
            hint = did_you_mean(name, known).replace("Did you mean ", f"Did you mean {prefix}")
            raise UserError(f"{where}'{prefix}{name}' is not a {kind}.{hint} `litlab fit --help-all` shows all.")


def _check_option(name: str, known: list[str], trainer_arguments: list[str]) -> None:
    top, _, rest = name.partition(".")
    section, argument = (top, rest.partition(".")[0]) if top in SECTIONS else (name, "")
    fits = section in known and (top != "trainer" or not argument or argument in trainer_arguments)
    if not fits:
        names = [*known, *_READ_BEFORE, *(f"trainer.{argument}" for argument in trainer_arguments)]
        hint = did_you_mean(name, names).replace("Did you mean ", "Did you mean --")
        raise UserError(f"'--{name}' is not an option.{hint} `--help` shows the usual options, `--help-all` every one.")


def _add_document(merged: dict[str, Any], document: Mapping[str, Any], path: Path) -> None:
    for key, value in document.items():
        if key in ("model", "data"):
            merged[key] = _merged_class(merged.get(key), value, key)
        elif key == "trainer":
            _announce_dropped_callbacks(merged, value, f"{path.name} replaces the list", "callbacks+:")
            trainer = merged.setdefault("trainer", {})
            for name, part in value.items():
                _put(trainer, name.removesuffix("+"), part, name.endswith("+"))
        else:
            merged[key] = value


def _merged_class(old: Any, new: Any, section: str) -> dict[str, Any]:
    """Merge two forms of a class; another class keeps the arguments that it takes too, with a type in common."""
    merged = _class_form(old)
    added = _class_form(new)
    path = added.get("class_path", merged.get("class_path"))
    if path is None:
        raise UserError(f"{section} names no class. Add `class_path:`; `litlab list` shows the names.")
    arguments = dict(merged.get("init_args") or {})
    if merged.get("class_path") not in (None, path):
        before, now = find_class(merged["class_path"], section), find_class(path, section)
        arguments = {name: arguments[name] for name in arguments if types_of(before, name) & types_of(now, name)}
    for name, value in (added.get("init_args") or {}).items():
        _put(arguments, name.removesuffix("+"), value, name.endswith("+"))
    result = {**merged, **added, "class_path": path}
    return {**result, "init_args": arguments} if arguments or "init_args" in result else result


def _class_form(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    return dict(value) if isinstance(value, Mapping) else {"class_path": value}


def _set(merged: dict[str, Any], given: Given) -> None:
    top, _, rest = given.name.partition(".")
    if top not in SECTIONS:
        merged[top] = given.value
        return
    value = given.value
    if top == "trainer":
        _set_trainer(merged, rest, value, given.append)
    elif rest in ("", "class_path"):
        merged[top] = _merged_class(merged.get(top), _section_value(value, top) if not rest else value, top)
    else:
        section = _class_form(merged.get(top))
        if "class_path" not in section:
            raise UserError(f"--{given.name}: no {top} is named. Pass --{top} NAME or a config.")
        merged[top] = section
        _set_argument(section, rest.split("."), value, given.append, top)


def _set_trainer(merged: dict[str, Any], name: str, value: Any, append: bool) -> None:
    trainer = merged.setdefault("trainer", {})
    if not name:
        trainer.update(_section_value(value, "trainer"))
        return
    first, *rest = name.split(".")
    if rest:
        _descend(trainer, first, rest, value, append)
        return
    types = types_of(Trainer, first)
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value) and (int in types or str not in types):
        value = int(value)  # jsonargparse would leave `--trainer.devices 2` as text, which comes first in its types
    if first == "callbacks":
        value = _parsed(value, "trainer.callbacks")
        if not append:
            _announce_dropped_callbacks(
                merged, {"callbacks": value}, "--trainer.callbacks replaces the list", "--trainer.callbacks+="
            )
    _put(trainer, first, value, append)


def _section_value(value: Any, section: str) -> Any:
    """Return a section given as an option: a name, a file that contains it, or YAML text."""
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        return read_section(value, section, Path(f"--{section}"))
    value = _parsed(value, section)
    if section == "trainer" and not isinstance(value, Mapping):
        raise UserError(f"trainer: '{value}' is not a config file. Pass options one by one: --trainer.max_epochs 5.")
    return value


def _set_argument(section: dict[str, Any], keys: list[str], value: Any, append: bool, where: str) -> None:
    """Set an argument of a class given as {class_path, init_args}, or something inside it."""
    first, *rest = keys
    if first in _CLASS_KEYS and not rest:
        value = _parsed(value, where)
        if first != "class_path" and not isinstance(value, Mapping):
            raise UserError(
                f"{where}.{first} must be a mapping, got '{value}'. Set one argument: --{where}.NAME VALUE."
            )
        section.update(_merged_class(section, {first: value}, where))
        return
    target = section.setdefault("init_args", {})
    if first in _CLASS_KEYS:
        target = section.setdefault(first, {})
        first, *rest = rest
    if not rest:
        _put(target, first, value, append)
        return
    if where == "model" and first in NAMED_COMPONENTS:
        model = find_class(section["class_path"], where)
        if isinstance(model, type) and issubclass(model, LitTask):
            target[first] = _component(target.get(first, default_of(model, first)), first)
            if rest[0] == "init_args" and "class_path" not in target[first]:  # the flat form beats `init_args`
                rest = rest[1:] or rest
    _descend(target, first, rest, value, append)


def _component(value: Any, name: str) -> dict[str, Any]:
    value = _parsed(value, name)
    if isinstance(value, Mapping):
        return dict(value)
    return {} if value in (None, "null", "none", "None") else {"name": value}


def _descend(container: dict[str, Any], name: str, keys: list[str], value: Any, append: bool) -> None:
    """Set something inside an argument: in the last class of a list, in a class, or in a plain mapping."""
    node = _parsed(container.get(name), name)
    if name == "callbacks" and not node:
        raise UserError(f"trainer.callbacks: no callback takes '{'.'.join(keys)}'. Add one: --trainer.callbacks+=NAME.")
    if isinstance(node, list) and node:
        node = list(node)
        node[-1] = _class_form(node[-1])
        container[name] = node
        _set_argument(node[-1], keys, value, append, name)
        return
    if isinstance(node, str):
        node = {"class_path": node}
    node = dict(node) if isinstance(node, Mapping) else {}
    container[name] = node
    if "class_path" in node and not set(node) - set(_CLASS_KEYS):
        _set_argument(node, keys, value, append, name)
        return
    for key in keys[:-1]:
        inner = node.get(key)
        node[key] = dict(inner) if isinstance(inner, Mapping) else {}
        node = node[key]
    _put(node, keys[-1], read_value(value, name) if isinstance(value, str) else value, append)


def _put(container: dict[str, Any], name: str, value: Any, append: bool) -> None:
    if append:
        container[name] = [*_as_list(_parsed(container.get(name), name)), *_as_list(_parsed(value, name))]
        return
    old: Any = container.get(name)
    same_class = (
        isinstance(old, Mapping)
        and isinstance(value, Mapping)
        and "class_path" in old
        and value.get("class_path", old["class_path"]) == old["class_path"]
        and not set(value) - set(_CLASS_KEYS)
    )
    if same_class:
        value = {**old, **value, "init_args": {**(old.get("init_args") or {}), **(value.get("init_args") or {})}}
    container[name] = value


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value in (None, "null") else [value]


def _parsed(value: Any, name: str) -> Any:
    """Read text that is a YAML list or mapping."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    return read_value(value, name)


def _announce_dropped_callbacks(merged: Mapping[str, Any], new: Any, why: str, instead: str) -> None:
    """Report callbacks that a plain list drops; replacing a list is legal but must not be silent."""
    if not isinstance(new, Mapping) or "callbacks" not in new:
        return
    kept = _class_names(new["callbacks"])
    dropped = [name for name in _class_names((merged.get("trainer") or {}).get("callbacks")) if name not in kept]
    if dropped:
        say(f"callbacks: {', '.join(dropped)} dropped, because {why}; write `{instead}` to add to it.")


def _class_names(entries: Any) -> list[str]:
    paths = [_class_form(entry).get("class_path", "?") for entry in _as_list(entries)]
    return [str(path).rpartition(".")[2] for path in paths]


def _rank(name: str) -> int:
    """Order options: what replaces a section or component as a whole comes before the arguments in it."""
    section, *rest = name.replace(".init_args.", ".").split(".")
    if section in SECTIONS and rest in ([], ["class_path"]):
        return 0
    return 2 if section == "model" and len(rest) > 1 and rest[0] in NAMED_COMPONENTS else 1

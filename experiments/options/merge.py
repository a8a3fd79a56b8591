"""Config files and options merged into one nested mapping, with every key checked.

Later files override earlier ones, and options override files at any position. litlab expands short forms:
`--model.hidden` becomes `model: {init_args: {hidden: ...}}`. The value of an option stays text, because jsonargparse
converts it to the type of the argument. Only text inside a mapping or list is read as YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean, say
from experiments.options.class_check import check_arguments, find_class
from experiments.options.config_files import read_config, read_section, read_value
from experiments.options.request import SECTIONS, Given, Request, known_keys, unknown_option
from experiments.options.signatures import default_of, parameters, types_of
from lit_models import LitTask

# Arguments of litlab's models that take a name with arguments: `--model.optimizer sgd --model.optimizer.lr 0.1`.
NAMED_COMPONENTS = ("optimizer", "scheduler", "loss", "init", "activation")
_CLASS_KEYS = {"class_path", "init_args", "dict_kwargs"}


def merge(request: Request, trainer_class: type) -> dict[str, Any]:
    """Return the mapping for the parser; raise a UserError for the first invalid key, class or file."""
    merged: dict[str, Any] = {}
    trainer_arguments = parameters(trainer_class)
    for path in request.configs:
        document = read_config(path)
        _check_keys(document, known_keys(), f"{path}: ")
        _drop_mode(merged, document)
        for name, value in document.items():
            _set(merged, Given(name, value), path.name, request.names)
    options = [*known_keys(), *(option.name for option in request.command.options)]
    options += [f"trainer.{name}" for name in trainer_arguments]
    _drop_mode(merged, [given.name for given in request.given])
    for given in sorted(request.given, key=lambda given: _rank(given.name)):
        first, *rest = given.name.split(".")
        checked = ".".join([first, *rest[:1]]) if first == "trainer" else first if first in SECTIONS else given.name
        if checked not in options:
            raise unknown_option(given.name, options)
        _set(merged, given, f"--{given.name}", request.names)
    trainer = merged.get("trainer") or {}
    _check_keys(trainer, trainer_arguments, prefix="trainer.")
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


def callbacks_without_mode(merged: Mapping[str, Any]) -> list[str]:
    """Return the metrics that callbacks of a merged config monitor without an explicit `mode`."""
    entries = [_class_form(entry) for entry in _as_list((merged.get("trainer") or {}).get("callbacks"))]
    arguments = [entry.get("init_args") or {} for entry in entries]
    given = [each for each in arguments if isinstance(each, Mapping)]
    return [str(each["monitor"]) for each in given if "monitor" in each and "mode" not in each]


def _drop_mode(merged: dict[str, Any], names: Iterable[str]) -> None:
    """Remove `mode` if `monitor` is set again without it: it belongs to the previous metric."""
    if "monitor" in names and "mode" not in names:
        merged.pop("mode", None)


def _check_keys(keys: Iterable[str], known: Iterable[str], where: str = "", prefix: str = "") -> None:
    for name in keys:
        if name.removesuffix("+") not in known:
            hint = did_you_mean(name, known).replace("Did you mean ", f"Did you mean {prefix}")
            raise UserError(
                f"{where}'{prefix}{name}' is not a key.{hint} Remove or rename it; `litlab fit --help-all` shows all."
            )


def _merge_class(old: Any, new: Any, section: str, options: Sequence[str] = ()) -> dict[str, Any]:
    """Merge two forms of a class; a new class keeps the old arguments that it has too, with a type in common.

    litlab reports these arguments, except those that `options` set.
    """
    merged, added = _class_form(old), _class_form(new)
    path = added.get("class_path", merged.get("class_path"))
    if path is None:
        raise UserError(f"{section} names no class. Add `class_path:`; `litlab list` shows the names.")
    arguments = dict(merged.get("init_args") or {})
    if merged.get("class_path") not in (None, path):
        before, now = find_class(merged["class_path"], section), find_class(path, section)
        kept = {name: arguments[name] for name in arguments if types_of(before, name) & types_of(now, name)}
        if before is not now:
            replaced = {name.split(".")[1] for name in options if name.startswith(f"{section}.")}
            _report_kept(section, path, merged["class_path"], kept, replaced | {*(added.get("init_args") or {})})
        arguments = kept
    _put_all(arguments, added.get("init_args") or {})
    result = {**merged, **added, "class_path": path}
    return {**result, "init_args": arguments} if arguments or "init_args" in result else result


def _class_form(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    return dict(value) if isinstance(value, Mapping) else {"class_path": value}


def _set(merged: dict[str, Any], given: Given, source: str, options: Sequence[str]) -> None:
    """Set a key of a config file or an option; `source` is the name of the file or the option."""
    section, _, rest = given.name.partition(".")
    value = given.value
    if section not in SECTIONS:
        merged[section] = value
    elif section == "trainer":
        _set_trainer(merged.setdefault("trainer", {}), rest, value, given.append, source)
    elif rest in ("", "class_path"):
        value = value if rest else _read_value(value, section)
        merged[section] = _merge_class(merged.get(section), value, section, options)
    else:
        form = _class_form(merged.get(section))
        if "class_path" not in form:
            raise UserError(f"--{given.name}: no {section} is named. Pass --{section} NAME or a config.")
        merged[section] = form
        _set_argument(form, rest.split("."), value, given.append, section)


def _set_trainer(trainer: dict[str, Any], name: str, value: Any, append: bool, source: str) -> None:
    first, *rest = name.split(".")
    if not name:
        section = _read_value(value, "trainer")
        if "callbacks" in section:
            _report_dropped(trainer.get("callbacks"), section["callbacks"], source, "callbacks+:")
        _put_all(trainer, section)
    elif rest:
        _descend(trainer, first, rest, value, append)
    else:
        types = types_of(Trainer, first)
        if isinstance(value, str) and re.fullmatch(r"-?\d+", value) and (int in types or str not in types):
            value = int(value)  # `str` comes first in the types of `devices`, so jsonargparse would not convert "2"
        if first == "callbacks" and not append:
            value = _parse_nested(value, "trainer.callbacks")
            _report_dropped(trainer.get("callbacks"), value, source, "--trainer.callbacks+=")
        _put(trainer, first, value, append)


def _read_value(value: Any, section: str) -> Any:
    """Return the content of a section given as an option: a class name, a file, or YAML text."""
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        return read_section(value, section, Path(f"--{section}"))
    value = _parse_nested(value, section)
    if section == "trainer" and not isinstance(value, Mapping):
        raise UserError(f"trainer: '{value}' is not a config file. Pass options one by one: --trainer.max_epochs 5.")
    return value


def _set_argument(form: dict[str, Any], keys: list[str], value: Any, append: bool, where: str) -> None:
    """Set an argument of a class given as {class_path, init_args}, or a value inside the argument."""
    first, *rest = keys
    if first in _CLASS_KEYS and not rest:
        value = _parse_nested(value, where)
        if first != "class_path" and not isinstance(value, Mapping):
            raise UserError(
                f"{where}.{first} must be a mapping, got '{value}'. Set one argument: --{where}.NAME VALUE."
            )
        form.update(_merge_class(form, {first: value}, where))
        return
    target = form.setdefault("init_args", {})
    if first in _CLASS_KEYS:
        target = form.setdefault(first, {})
        first, *rest = rest
    if not rest:
        _put(target, first, value, append)
        return
    if where == "model" and first in NAMED_COMPONENTS:
        model = find_class(form["class_path"], where)
        if isinstance(model, type) and issubclass(model, LitTask):
            target[first] = _component(target.get(first, default_of(model, first)), first)
            if rest[0] == "init_args" and "class_path" not in target[first]:
                rest = rest[1:] or rest  # a component given by its short name has no `init_args`
    _descend(target, first, rest, value, append)


def _component(value: Any, name: str) -> dict[str, Any]:
    value = _parse_nested(value, name)
    if isinstance(value, Mapping):
        return dict(value)
    return {} if value in (None, "null", "none", "None") else {"name": value}


def _descend(container: dict[str, Any], name: str, keys: list[str], value: Any, append: bool) -> None:
    """Set a value inside an argument: in the last class of a list, in a class, or in a mapping."""
    node = _parse_nested(container.get(name), name)
    if name == "callbacks" and not node:
        raise UserError(f"trainer.callbacks: no callback takes '{'.'.join(keys)}'. Add one: --trainer.callbacks+=NAME.")
    if isinstance(node, list) and node:
        container[name] = node = [*node[:-1], _class_form(node[-1])]
        _set_argument(node[-1], keys, value, append, name)
        return
    node = container[name] = _class_form(node) if isinstance(node, (str, Mapping)) else {}
    if _is_class(node):
        _set_argument(node, keys, value, append, name)
    elif len(keys) > 1:
        _descend(node, keys[0], keys[1:], value, append)
    else:
        _put(node, keys[0], read_value(value, name) if isinstance(value, str) else value, append)


def _put_all(container: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Set several arguments; `name+` appends to the value of `name`, in any order."""
    named = [(str(name), value) for name, value in values.items()]
    for name, value in sorted(named, key=lambda pair: pair[0].endswith("+")):
        _put(container, name.removesuffix("+"), value, name.endswith("+"))


def _put(container: dict[str, Any], name: str, value: Any, append: bool) -> None:
    """Set one argument, or append to it; two mappings that name the same class are merged."""
    old: Any = container.get(name)
    if append:
        value = [*_as_list(_parse_nested(old, name)), *_as_list(_parse_nested(value, name))]
    elif _is_class(old) and isinstance(value, Mapping) and _is_class({**old, **value}, old["class_path"]):
        value = {**old, **value, "init_args": {**(old.get("init_args") or {}), **(value.get("init_args") or {})}}
    container[name] = value


def _is_class(value: Any, path: Any = None) -> bool:
    """Return True for the form {class_path, init_args}; with `path`, only for this class."""
    form = isinstance(value, Mapping) and "class_path" in value and not set(value) - _CLASS_KEYS
    return form and path in (None, value["class_path"])


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value in (None, "null") else [value]


def _parse_nested(value: Any, name: str) -> Any:
    """Parse text that is a YAML list or mapping; return other values unchanged."""
    return read_value(value, name) if isinstance(value, str) and value.lstrip().startswith(("[", "{")) else value


def _report_dropped(old: Any, new: Any, source: str, append: str) -> None:
    """Report the callbacks that a new list drops."""
    dropped = [name for name in _class_names(old) if name not in _class_names(new)]
    if dropped:
        say(f"callbacks: {source} replaces the list and drops {', '.join(dropped)}. Use `{append}` to add to the list.")


def _report_kept(section: str, new: str, old: str, kept: Mapping[str, Any], replaced: set[str]) -> None:
    """Report the arguments of another class that a new class inherits."""
    values = [f"{name} {value}" for name, value in kept.items() if name not in replaced]
    if values:
        names = [str(path).rpartition(".")[2] for path in (new, old)]
        say(
            f"{section}: {names[0]} keeps arguments of {names[1]}: {', '.join(values)}. Set --{section}.NAME to change."
        )


def _class_names(entries: Any) -> list[str]:
    paths = [_class_form(entry).get("class_path", "?") for entry in _as_list(entries)]
    return [str(path).rpartition(".")[2] for path in paths]


def _rank(name: str) -> int:
    """Return the position of an option in the order: sections first, named components before their arguments."""
    section, *rest = name.replace(".init_args.", ".").split(".")
    if section in SECTIONS and rest in ([], ["class_path"]):
        return 0
    return 2 if section == "model" and len(rest) > 1 and rest[0] in NAMED_COMPONENTS else 1

"""Puts command-line words into the order and form in which jsonargparse gives the documented result."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException

import lit_models
from experiments.messages.text import say
from experiments.options.config_files import read_config
from experiments.options.signatures import default_of

# Arguments of litlab's models that take a name with settings: `--model.optimizer sgd --model.optimizer.lr 0.1`.
SPECS = ("optimizer", "scheduler", "loss", "init", "activation")


def arrange(words: list[str]) -> tuple[list[str], list[Path]]:
    """Words in parsing order, and the config files among them.

    jsonargparse reads from left to right; a flag is to beat every file wherever it stands, so files come first.
    """
    _check_last(words)
    words = _split_off_values(words)
    configs = [Path(word.partition("=")[2]) for word in words if word.startswith("--config=")]
    flags = [word for word in words if not word.startswith("--config=")]
    documents = [read_config(path) for path in configs]
    _announce_dropped_callbacks(documents, configs, flags)
    for section in ("model", "data"):
        _check_named(documents, flags, section)
    model = model_class(documents, flags)
    _imported(class_path(documents, flags, "data") or "")  # what is no Python is told here; the parser hides it
    if isinstance(model, type) and issubclass(model, lit_models.LitTask):
        flags = _name_specs(flags, documents, model)
    return [f"--config={path}" for path in configs] + flags, configs


def _split_off_values(words: list[str]) -> list[str]:
    """`--config=X` stays one word; of the specs `--model.optimizer=sgd` becomes two, like the form with a blank."""
    result = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name in {f"--model.{spec}" for spec in SPECS}:
            result += [name, value]
        else:
            result.append(word)
    return result


def _check_last(words: list[str]) -> None:
    """Argparse names the wrong option when the last one lacks its value."""
    if words and words[-1].startswith("--") and "=" not in words[-1] and words[-1] not in ("--help", "--print_config"):
        if words[-1].endswith(".help"):
            return
        raise MisconfigurationException(f"{words[-1]} needs a value after it.")


def option(flags: list[str], name: str) -> str | None:
    """The value last given to a flag, in either form."""
    value = None
    for position, word in enumerate(flags):
        if word == name and position + 1 < len(flags):
            value = flags[position + 1]
        elif word.startswith(f"{name}="):
            value = word.partition("=")[2]
    return value


def class_path(documents: list[dict[str, Any]], flags: list[str], section: str) -> str | None:
    """Name or path of the class that `model` or `data` will be."""
    found = option(flags, f"--{section}") or option(flags, f"--{section}.class_path")
    if found is not None:
        return found
    for document in reversed(documents):
        part = document.get(section)
        if isinstance(part, str):
            return part
        if isinstance(part, dict) and "class_path" in part:
            return str(part["class_path"])
    return None


def _check_named(documents: list[dict[str, Any]], flags: list[str], section: str) -> None:
    """Refuse what can be no class's name, and a section of a config whose class is named nowhere."""
    path = class_path(documents, flags, section)
    shows = f"`litlab list {'models' if section == 'model' else section}` shows all"
    if path is None and any(section in document for document in documents):
        raise MisconfigurationException(f"{section}: no class is named; give one by `class_path:`. {shows}.")
    if path is None or path.startswith("{") or path.endswith((".yaml", ".yml", ".json")):
        return
    if not all(part.isidentifier() for part in path.split(".")):
        raise MisconfigurationException(
            f"{section}: '{path}' is no class; give a name ({shows}) or an import path such as my_module.MyClass."
        )


def model_class(documents: list[dict[str, Any]], flags: list[str]) -> Any:
    """The model's class if it can be imported; whether it can is judged later, by the parser."""
    path = class_path(documents, flags, "model") or ""
    return getattr(lit_models, path, None) if "." not in path else _imported(path)


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    if not module:
        return None
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def _name_specs(flags: list[str], documents: list[dict[str, Any]], model: type) -> list[str]:
    """Write a spec as one mapping, then the settings that flags add to it, in whatever order they came.

    The name may stand in a flag, in a config, or be the default in the model's signature.
    """
    others, names, settings = _sort_specs(flags)
    for spec in dict.fromkeys([*names, *settings]):
        base = names.get(spec, _last_spec(documents, spec) if spec not in names else None)
        if base is None and spec not in names:
            base = default_of(model, spec)
        if isinstance(base, str) and not base.startswith("{") and base not in ("null", "none", "None"):
            base = {"name": base}
        if base is not None:
            others.append(f"--model.{spec}={base if isinstance(base, str) else json.dumps(base)}")
        others += settings.get(spec, [])
    return others


def _sort_specs(flags: list[str]) -> tuple[list[str], dict[str, str], dict[str, list[str]]]:
    """Flags that are no spec, the last name given to each spec, and the words that set something in it."""
    others: list[str] = []
    names: dict[str, str] = {}
    settings: dict[str, list[str]] = {}
    rest = iter(flags)
    for word in rest:
        head, equals, _ = word.removeprefix("--model.").partition("=")
        spec, dot, _ = head.partition(".")
        if not word.startswith("--model.") or spec not in SPECS or head.endswith(".help"):
            others.append(word)
            continue
        value = [] if equals else [next(rest, "--")]
        if value and value[0].startswith("--"):
            raise MisconfigurationException(f"{word} needs a value after it.")
        if dot:
            settings.setdefault(spec, []).extend([word, *value])
        else:
            names[spec] = value[0]
    return others, names, settings


def _last_spec(documents: list[dict[str, Any]], spec: str) -> Any:
    for document in reversed(documents):
        model = document.get("model")
        arguments = model.get("init_args", model) if isinstance(model, dict) else {}
        if isinstance(arguments, dict) and spec in arguments:
            return arguments[spec]
    return None


def _callback_names(entries: Any) -> list[str]:
    entries = entries if isinstance(entries, list) else [entries] if entries else []
    paths = [entry.get("class_path", "?") if isinstance(entry, dict) else str(entry) for entry in entries]
    return [path.rpartition(".")[2] for path in paths]


def _announce_dropped_callbacks(documents: list[dict[str, Any]], configs: list[Path], flags: list[str]) -> None:
    """A plain `callbacks:` list replaces what earlier files asked for; that is legal, but never silent."""
    kept: list[str] = []
    for document, path in zip(documents, configs, strict=True):
        trainer = document.get("trainer")
        if not isinstance(trainer, dict):
            continue
        if "callbacks" in trainer:
            names = _callback_names(trainer["callbacks"])
            _announce([name for name in kept if name not in names], f"{path.name} replaces the list", "callbacks+:")
            kept = names
        kept = kept + _callback_names(trainer.get("callbacks+"))
    plain = option(flags, "--trainer.callbacks")
    if plain is not None:
        _announce(
            [name for name in kept if name not in plain],
            "--trainer.callbacks replaces the list",
            "--trainer.callbacks+=",
        )


def _announce(dropped: list[str], why: str, instead: str) -> None:
    if dropped:
        say(f"callbacks: {', '.join(dropped)} dropped, because {why}; write `{instead}` to add to it.")

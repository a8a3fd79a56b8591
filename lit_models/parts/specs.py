"""Specs: how a model is told, in plain data, which optimizer, schedule, loss, initialisation or activation to use.

A spec is a short name (``"cosine"``), a class path (``"torch.optim.SGD"``), or a dictionary with settings, either flat,
``{"name": "sgd", "lr": 0.1}``, or in jsonargparse's form, ``{"class_path": "sgd", "init_args": {"lr": 0.1}}``.
Settings beside ``init_args`` win over those inside: this is what ``--model.optimizer.lr 0.1`` adds on the command line.
"""

import difflib
import functools
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

Spec = str | dict[str, Any]


def as_spec(value: Any, what: str = "spec") -> dict[str, Any]:
    """Any accepted form of a spec as ``{"class_path": str, "init_args": dict}``; `what` names the argument in errors.

    Python callers may also pass a class or a `functools.partial` of a class with keywords.
    """
    if isinstance(value, str) and value.strip():
        return {"class_path": value.strip(), "init_args": {}}
    if isinstance(value, Mapping):
        return _from_mapping(dict(value), what)
    if inspect.isclass(value):
        return {"class_path": _public_path(value), "init_args": {}}
    if isinstance(value, functools.partial) and inspect.isclass(value.func):
        if value.args:
            raise MisconfigurationException(f"{what}: a partial may hold keywords only; name its settings.")
        return {**as_spec(value.func, what), "init_args": dict(value.keywords)}
    if callable(value):
        raise MisconfigurationException(
            f"{what}: a function cannot be stored in a checkpoint; give a name, a class or a partial of a class."
        )
    raise MisconfigurationException(
        f"{what}: {value!r} is neither a name nor a dictionary such as {{name: ..., setting: ...}}."
    )


def _public_path(found: type) -> str:
    """The shortest import path of a class: torch.optim.SGD, not torch.optim.sgd.SGD."""
    parts = found.__module__.split(".")
    for length in range(1, len(parts)):
        package = ".".join(parts[:length])
        if getattr(sys.modules.get(package), found.__qualname__, None) is found:
            return f"{package}.{found.__qualname__}"
    return f"{found.__module__}.{found.__qualname__}"


def _from_mapping(value: dict[str, Any], what: str) -> dict[str, Any]:
    name = value.pop("class_path", None)
    short = value.pop("name", None)
    if name is not None and short is not None:
        raise MisconfigurationException(f"{what}: both name={short!r} and class_path={name!r} are given; keep one.")
    name = name if name is not None else short
    init_args = value.pop("init_args", None) or {}
    if not isinstance(init_args, Mapping):
        raise MisconfigurationException(f"{what}: init_args must be a dictionary, not {init_args!r}.")
    settings = {**init_args, **value}
    if name is None:
        given = ", ".join(f"{key}={setting!r}" for key, setting in settings.items()) or "nothing"
        raise MisconfigurationException(
            f"{what}: {given} is given without a name; write {{name: NAME, ...}}, "
            f"on the command line --model.{what}.name NAME before its settings."
        )
    return {**as_spec(name, what), "init_args": settings}


def brief(value: Any, what: str = "spec") -> Spec:
    """The plain form that hyper-parameters keep and a config can hold: a bare name where there are no settings.

    A short name never stands under ``class_path``: jsonargparse would try to import it.
    """
    spec = as_spec(value, what)
    name, settings = str(spec["class_path"]), spec["init_args"]
    if not settings:
        return name
    return spec if "." in name else {"name": name, **settings}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' Did you mean x?' for the nearest known name, else the list of all of them."""
    names = list(dict.fromkeys(known))
    lowered: dict[str, str] = {}
    for candidate in names:
        lowered.setdefault(candidate.lower(), candidate)  # short names come first
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.5)
    return f" Did you mean {lowered[near[0]]}?" if near else f" Known are: {', '.join(names)}."


def resolve(
    value: Any,
    short_names: Mapping[str, Callable[..., Any]],
    what: str,
    base: type | None = None,
    namespace: Any = None,
    supplied: int = 0,
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What a spec stands for, as (class or function, keyword settings), with the names of the settings checked.

    `short_names` values may be partials, whose keywords are defaults. A class of the module `namespace` is found by its
    bare name; `base` is what every class must derive from; `supplied` counts the leading arguments the caller provides.
    """
    spec = as_spec(value, what)
    target = _find(str(spec["class_path"]), short_names, what, base, namespace)
    settings: dict[str, Any] = dict(spec["init_args"])
    if isinstance(target, functools.partial):
        settings = {**target.keywords, **settings}
        target = target.func
    check_settings(target, settings, what, str(spec["class_path"]), supplied)
    return target, settings


def _find(
    name: str, short_names: Mapping[str, Callable[..., Any]], what: str, base: type | None, namespace: Any
) -> Callable[..., Any]:
    if name.lower() in short_names:
        return short_names[name.lower()]
    if "." in name:
        return import_class(name, what, base)
    classes = {
        key: found
        for key, found in vars(namespace).items()
        if inspect.isclass(found) and not key.startswith("_") and (base is None or issubclass(found, base))
    } if namespace is not None else {}  # fmt: skip
    for key, found in classes.items():
        if key.lower() == name.lower():
            return found
    hint = did_you_mean(name, [*short_names, *classes])
    raise MisconfigurationException(f"{what}: {name!r} is not known.{hint}")


def import_class(path: str, what: str, base: type | None = None) -> type:
    """The class at a dotted import path, checked to be a `base`."""
    module_name, _, attribute = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise MisconfigurationException(f"{what}: {path!r} cannot be imported ({error}).") from error
    found = getattr(module, attribute, None)
    if not inspect.isclass(found):  # torch.optim.sgd is a module beside the class torch.optim.SGD
        same = (entry for key, entry in vars(module).items() if key.lower() == attribute.lower())
        found = next((entry for entry in same if inspect.isclass(entry)), found)
    if found is None:
        classes = [key for key, entry in vars(module).items() if inspect.isclass(entry)]
        raise MisconfigurationException(
            f"{what}: {module_name} has no class {attribute!r}.{did_you_mean(attribute, classes)}"
        )
    if not inspect.isclass(found) or (base is not None and not issubclass(found, base)):
        needed = "class" if base is None else f"subclass of {base.__module__}.{base.__qualname__}"
        raise MisconfigurationException(f"{what}: {path} is no {needed}.")
    return found


def check_settings(
    target: Callable[..., Any], settings: Mapping[str, Any], what: str, name: str, supplied: int = 0
) -> None:
    """Refuse settings that the target does not take and name those that it needs and did not get."""
    parameters = list(inspect.signature(target).parameters.values())[supplied:]
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    names = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_POSITIONAL]
    for key in settings:
        if key not in names:
            hint = did_you_mean(key, names) if names else " It takes no settings."
            raise MisconfigurationException(f"{what}: {name} has no setting {key!r}.{hint}")
        _check_value(next(p for p in parameters if p.name == key), settings[key], f"{what}: {name}")
    missing = [p.name for p in parameters if p.default is inspect.Parameter.empty and p.name not in settings]
    missing = [key for key in missing if key in names]
    if missing:
        raise MisconfigurationException(f"{what}: {name} needs {' and '.join(missing)}.")


def _check_value(parameter: inspect.Parameter, value: Any, what: str) -> None:
    """Refuse text where a number or a truth value belongs, and NaN; torch takes some of these until training fails."""
    default, annotation = parameter.default, str(parameter.annotation)
    truth = isinstance(default, bool)
    number = isinstance(default, (int, float)) or ("str" not in annotation and "float" in annotation)
    if isinstance(value, str) and (truth or number):
        kind = "true or false" if truth else "a number"
        raise MisconfigurationException(f"{what}: {parameter.name}={value!r} must be {kind}.")
    if isinstance(value, float) and math.isnan(value):
        raise MisconfigurationException(f"{what}: {parameter.name} is NaN; give a number.")
    if parameter.name == "lr" and isinstance(value, float) and math.isinf(value):
        raise MisconfigurationException(f"{what}: lr is infinite; give a number such as 0.001.")


def build(target: Callable[..., Any], arguments: tuple[Any, ...], settings: Mapping[str, Any], what: str) -> Any:
    """Call the target; a value it refuses is reported as the user's mistake, under the argument's name."""
    try:
        return target(*arguments, **settings)
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        name = getattr(target, "__name__", str(target))
        reason = str(error).strip().rstrip(".")
        raise MisconfigurationException(
            f"{what}: {name}({given}) is refused: {reason}. Change the setting, or leave it out."
        ) from error

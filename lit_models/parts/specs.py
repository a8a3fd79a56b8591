"""Specs: plain data that names an optimizer, learning rate schedule, loss, initialization or activation.

A spec is a short name (``"cosine"``), a class path (``"torch.optim.SGD"``) or a dictionary with arguments, either flat,
``{"name": "sgd", "lr": 0.1}``, or in jsonargparse's form, ``{"class_path": "sgd", "init_args": {"lr": 0.1}}``.
Arguments next to ``init_args``, where ``--model.optimizer.lr 0.1`` adds them, override those inside.
"""

import difflib
import functools
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from lightning.fabric.utilities.exceptions import MisconfigurationException

Spec = str | dict[str, Any]
T = TypeVar("T")


def as_spec(value: Any, what: str = "spec") -> dict[str, Any]:
    """Return a spec as ``{"class_path": str, "init_args": dict}``; errors name the argument `what`.

    In Python a spec may also be a class, or a `functools.partial` of a class with keyword arguments.

    >>> as_spec({"name": "sgd", "lr": 0.1})
    {'class_path': 'sgd', 'init_args': {'lr': 0.1}}
    """
    if isinstance(value, str) and value.strip():
        return {"class_path": value.strip(), "init_args": {}}
    if isinstance(value, Mapping):
        return _from_mapping(dict(value), what)
    if inspect.isclass(value):
        return {"class_path": public_path(value), "init_args": {}}
    if isinstance(value, functools.partial) and inspect.isclass(value.func):
        if value.args:
            raise MisconfigurationException(
                f"{what}: a partial must have keyword arguments only, got {value.args}. Pass them by name."
            )
        return {**as_spec(value.func, what), "init_args": dict(value.keywords)}
    if callable(value):
        raise MisconfigurationException(
            f"{what} must be a name, a class or a partial of a class, got a function, which a checkpoint cannot store. "
            "Pass a class."
        )
    raise MisconfigurationException(
        f"{what} must be a name or a dictionary such as {{name: ..., argument: ...}}, got {value!r}. "
        f"Set --model.{what} NAME."
    )


def public_path(found: type) -> str:
    """Return the shortest import path of a class: torch.optim.SGD, not torch.optim.sgd.SGD."""
    parts = found.__module__.split(".")
    for length in range(1, len(parts)):
        package = ".".join(parts[:length])
        names = getattr(sys.modules.get(package), "__dict__", {})  # reading the attribute could run `__getattr__`
        if names.get(found.__qualname__) is found:
            return f"{package}.{found.__qualname__}"
    return f"{found.__module__}.{found.__qualname__}"


def _from_mapping(value: dict[str, Any], what: str) -> dict[str, Any]:
    path, name = value.pop("class_path", None), value.pop("name", None)
    if path is not None and name is not None:
        raise MisconfigurationException(f"{what}: got both name={name!r} and class_path={path!r}. Remove one.")
    name = path if path is not None else name
    init_args = value.pop("init_args", None) or {}
    if not isinstance(init_args, Mapping):
        raise MisconfigurationException(
            f"{what}: init_args must be a dictionary, got {init_args!r}. Set it to one such as {{lr: 0.1}}."
        )
    arguments = {**init_args, **value}
    if name is None:
        given = ", ".join(f"{key}={argument!r}" for key, argument in arguments.items()) or "nothing"
        raise MisconfigurationException(
            f"{what}: got {given} without a name. Add name: NAME to the config, "
            f"or set --model.{what}.name NAME before its arguments."
        )
    return {**as_spec(name, what), "init_args": arguments}


def short_form(value: Any, what: str = "spec") -> Spec:
    """Return the form for hyperparameters and configs: the name alone if there are no arguments.

    A short name with arguments uses the key ``name``, because jsonargparse would import a ``class_path``.
    """
    spec = as_spec(value, what)
    name, arguments = str(spec["class_path"]), spec["init_args"]
    if not arguments:
        return name
    return spec if "." in name else {"name": name, **arguments}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean x?" for the most similar known name, or all known names if none is similar."""
    names = list(dict.fromkeys(known))
    lowered = {candidate.lower(): candidate for candidate in reversed(names)}  # the first of equal names wins
    starts = [key for key in lowered if key and name.lower().startswith(key)]  # `accuracy` means `acc`
    near = starts or difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return f" Did you mean {lowered[near[0]]}?" if near else f" Use one of {', '.join(names)}."


def resolve(
    value: Any,
    short_names: Mapping[str, Callable[..., T]],
    what: str,
    base: type | None = None,
    namespace: Any = None,
    supplied: int = 0,
) -> tuple[Callable[..., T], dict[str, Any]]:
    """Return the class or function that a spec names, and its keyword arguments, whose names it checks.

    Args:
        value: the spec.
        short_names: class or function by short name; the keywords of a partial are defaults.
        what: name of the argument, for errors.
        base: required base class of a class path.
        namespace: module whose classes may be named without their import path.
        supplied: number of leading arguments that are not part of the spec.
    """
    spec = as_spec(value, what)
    name, arguments = str(spec["class_path"]), dict(spec["init_args"])
    target = _find(name, short_names, what, base, namespace)
    if isinstance(target, functools.partial):
        arguments = {**target.keywords, **arguments}
        target = target.func
    _check_arguments(target, arguments, what, name, supplied)
    return target, arguments


def _find(
    name: str, short_names: Mapping[str, Callable[..., Any]], what: str, base: type | None, namespace: Any
) -> Callable[..., Any]:
    if name.lower() in short_names:
        return short_names[name.lower()]
    if "." in name:
        return import_class(name, what, base)
    classes: list[str] = []
    for key, found in vars(namespace).items() if namespace is not None else ():
        if inspect.isclass(found) and not key.startswith("_") and (base is None or issubclass(found, base)):
            if key.lower() == name.lower():
                return found
            classes.append(key)
    hint = did_you_mean(name, [*short_names, *classes])
    raise MisconfigurationException(f"{what}: unknown name {name!r}.{hint}")


def import_class(path: str, what: str, base: type | None = None) -> type:
    """Return the class at an import path; raise an error if it does not derive from `base`."""
    module_name, _, attribute = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise MisconfigurationException(
            f"{what}: {path!r} cannot be imported ({error}). Correct the class path or install its package."
        ) from error
    found = getattr(module, attribute, None)
    classes = {key: entry for key, entry in vars(module).items() if inspect.isclass(entry)}
    if not inspect.isclass(found):  # torch.optim.sgd is a module next to the class torch.optim.SGD
        found = next((entry for key, entry in classes.items() if key.lower() == attribute.lower()), found)
    if found is None:
        raise MisconfigurationException(
            f"{what}: {module_name} has no class {attribute!r}.{did_you_mean(attribute, classes)}"
        )
    if not inspect.isclass(found) or (base is not None and not issubclass(found, base)):
        needed = "class" if base is None else f"subclass of {base.__module__}.{base.__qualname__}"
        raise MisconfigurationException(f"{what} must be a {needed}, got {path}. Use the path of such a class.")
    return found


def _check_arguments(
    target: Callable[..., Any], arguments: Mapping[str, Any], what: str, name: str, supplied: int
) -> None:
    """Raise an error if an argument of the target is unknown or missing, or its value has a wrong type."""
    parameters = list(inspect.signature(target).parameters.values())[supplied:]
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = {p.name: p for p in parameters if p.kind is not inspect.Parameter.VAR_POSITIONAL}
    for key, value in arguments.items():
        if key not in known:
            hint = did_you_mean(key, known) if known else " Remove it; there are no arguments."
            raise MisconfigurationException(f"{what}: {name} has no argument {key!r}.{hint}")
        _check_value(known[key], value, f"{what}: {name}")
    missing = [key for key, p in known.items() if p.default is inspect.Parameter.empty and key not in arguments]
    if missing:
        raise MisconfigurationException(
            f"{what}: {name} needs {' and '.join(missing)}. Set --model.{what}.{missing[0]} after the name."
        )


def _check_value(parameter: inspect.Parameter, value: Any, what: str) -> None:
    """Raise an error if a number or bool is a string or NaN, which might fail only during training."""
    default, annotation, name = parameter.default, str(parameter.annotation), parameter.name
    boolean = isinstance(default, bool)
    number = isinstance(default, (int, float)) or ("str" not in annotation and "float" in annotation)
    if isinstance(value, str) and (boolean or number):
        kind, example = ("true or false", "true") if boolean else ("a number", "0.1")
        raise MisconfigurationException(
            f"{what}: {name} must be {kind}, got {name}={value!r}. Set a value such as {example}."
        )
    if isinstance(value, float) and (math.isnan(value) or (name == "lr" and math.isinf(value))):
        raise MisconfigurationException(f"{what}: {name} must be a finite number, got {value}. Set one such as 0.001.")


def build(target: Callable[..., T], supplied: tuple[Any, ...], arguments: Mapping[str, Any], what: str) -> T:
    """Call the target; convert its error to a user error that names the argument `what`."""
    try:
        return target(*supplied, **arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        name = getattr(target, "__name__", str(target))
        reason = str(error).strip().rstrip(".")
        raise MisconfigurationException(
            f"{what}: {name}({given}) failed: {reason}. Change or remove the argument."
        ) from error

"""Turns jsonargparse's messages into one sentence: what, where, and the way out."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

from experiments.messages.text import did_you_mean, one_line
from experiments.options.names import classes

_UNRECOGNISED = re.compile(r"unrecognized arguments?: (\S+)")
_UNKNOWN_KEY = re.compile(
    r"(?:Option '([^']+)' is not accepted|does not accept (?:option|nested key) '([^']+)'"
    r"|(?:Key|Option) ['\"]?([\w.]+)['\"]? is not expected)"
)
_KEY = re.compile(r"(?:Parser key|Key) ['\"]([^'\"]+)['\"]")
_NO_CLASS = re.compile(r"Expected a dot import path string: ([\w.]+)")
_BAD_CLASS = re.compile(r"Problem with given class_path '([^']+)':\s*(.+?)(?:\n\s*-|\Z)", re.S)
_EXPECTED = re.compile(r"Expected an? (?:<class '([^']+)'>|typing\.Literal\[(.+?)\](?:\.|\n|$))")
_NO_SUBCLASS = re.compile(r"Import path does not correspond to a subclass of (\w+)")
_NESTED = re.compile(r"NestedArg\(key='([^']+)', val='?(.*?)'?\)$")
_VALUE = re.compile(r"(?:Given|Got) value: ?(.*?)(?:\n|$)")
_NO_VALUE = re.compile(r"argument (--[\w.]+)\S*: expected (?:one|at least one) argument")
_NO_SETTINGS = re.compile(r"Unable to load config '(.*?)'")
_REQUIRED = re.compile(r"arguments are required: ([\w.]+)")
_GIVEN_CLASS = re.compile(r"class_path='(?:[\w.]+\.)?(\w+)', init_args=Namespace\(([^()]*)\)")
_INNER = re.compile("\x02(.*?)\x03", re.S)

_KINDS = {"model": ("models", "model"), "data": ("data", "data"), "trainer.callbacks": ("callbacks", "callback")}
_CLASS_PATH = "named by its import path, such as my_module.MyClass"
_TYPES = {
    "NoneType": "null",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "dict": "a mapping",
    "list": "a list",
    "tuple": "a list",
    "collections.abc.Sequence": "a list",
    "collections.abc.Iterable": "a list",
}


def explain_inner(message: str, keys: Iterable[str]) -> str:
    """The sentence for a mistake inside a class's settings.

    jsonargparse parses these with a parser of their own and quotes its error in the outer one. `explain` finds the
    sentence there by the marks around it, and fills in what only it knows: {section} and {name}.
    """
    if match := _INNER.search(message):
        return match[0]
    known = list(keys)
    if (key := _unknown(message)) in ("class_path", "init_args"):
        return "\x02{section}: settings stand under init_args:, beside class_path: nothing else does.\x03"
    if key is not None:
        listing = f" It takes {', '.join(known)}." if known else ""
        return f"\x02{{section}}: {{name}} has no setting '{key}'.{did_you_mean(key, known)}{listing}\x03"
    if match := _REQUIRED.search(message):
        return f"\x02{{section}}: {{name}} needs {match[1]}; give it by --{{section}}.{match[1]} VALUE.\x03"
    if sentence := _wrong_value(message):
        return f"\x02{{section}}.{sentence}\x03"
    return f"\x02{{section}}: {one_line(message)}\x03"


def explain(message: str, keys: Iterable[str], named: dict[str, str]) -> str:
    """The sentence for a parser's message; `keys` are the known options, `named` the classes of model and data."""
    known = list(keys)
    key = match[1] if (match := _KEY.search(message)) else ""
    section = next((name for name in _KINDS if key == name or key.startswith(f"{name}.")), "")
    if match := _INNER.search(message):
        name = (
            named.get(section, "").rpartition(".")[2]
            or _lacking(message, match[1])
            or f"the {_KINDS[section][1] if section else 'class'}"
        )
        return match[1].replace("{section}", section or key).replace("{name}", name)
    if match := _UNRECOGNISED.search(message):
        return _unknown_option(match[1], known)
    if unknown := _unknown(message):
        return _unknown_setting(unknown, known)
    if match := _BAD_CLASS.search(message):
        reason = one_line(match[2])
        module, _, name = match[1].rpartition(".")
        advice = did_you_mean(name, vars(sys.modules[module])) if module in sys.modules else ""
        advice = advice or " Is it in this folder or installed?"
        return f"{key or 'class_path'}: '{match[1]}' cannot be imported: {reason}.{advice}"
    if match := _NO_CLASS.search(message):
        return (
            _unknown_class(match[1], section)
            if section
            else f"{key}: '{match[1]}' is not known; a class is {_CLASS_PATH}."
        )
    if match := _NO_VALUE.search(message):
        return f"{match[1]} needs a value after it."
    if key == "trainer" and (match := _NO_SETTINGS.search(message)):
        return f"trainer: '{match[1]}' is no config file; give its settings one by one, as in --trainer.max_epochs 5."
    if "required" in message:
        missing = one_line(message).rpartition(": ")[2]
        return f"{missing} is missing. A config names a `model:` and a `data:`; `litlab list` shows what there is."
    return _wrong_value(message) or one_line(message, 600)


def _unknown(message: str) -> str | None:
    match = _UNKNOWN_KEY.search(message)
    return next(group for group in match.groups() if group) if match else None


def _lacking(message: str, sentence: str) -> str:
    """Of several callbacks the one without the setting that the sentence says is needed."""
    needed = re.search(r" needs ([\w.]+);", sentence)
    given = _GIVEN_CLASS.findall(message) if needed else []
    return next((name for name, settings in given if needed and f"{needed[1]}=None" in settings), "")


def _wrong_value(message: str) -> str | None:
    key, value = _KEY.search(message), _VALUE.search(message)
    if key is None or value is None:
        return None
    name, given = key[1], one_line(value[1], 100)
    if nested := _NESTED.search(given):
        name, given = f"{name}.{nested[1]}", nested[2]
    if match := _NO_SUBCLASS.search(message):
        return f"{name}: '{given}' is no {match[1]}; name a class that derives from it."
    kinds: list[str] = []
    choices: list[str] = []
    for type_name, literal in _EXPECTED.findall(message):
        if literal:
            choices += [choice.strip(" '\"") for choice in literal.split(",")]
        else:
            kinds.append(_TYPES.get(type_name, type_name))
    if choices:  # numbers among the choices are short for names
        kinds = [kind for kind in kinds if kind != "a whole number"]
    if name == "seed_everything":
        kinds = ["a whole number"]
    kinds.sort(key=lambda kind: kind == "null")
    if kinds == ["null"] and not choices:
        kinds = [f"a class {_CLASS_PATH}"]
    expected = " or ".join(dict.fromkeys([*choices, *kinds]))
    hint = did_you_mean(given, choices)
    return f"{name}: '{given}' is not possible{f'; expected {expected}' if expected else ''}.{hint}"


def _unknown_option(word: str, known: list[str]) -> str:
    if not word.startswith("-"):
        return f"'{word}' is one word too many: configs come right after the command, everything else begins with --."
    name = word.partition("=")[0].lstrip("-")
    hint = did_you_mean(name, known).replace("Did you mean ", "Did you mean --")
    return f"'--{name}' is not an option.{hint} `--help` shows the usual options, `--help-all` every one."


def _unknown_setting(key: str, known: list[str]) -> str:
    """A key in a config file: judged by its first part, or by the whole where that part is known."""
    top = sorted({name.partition(".")[0] for name in known})
    first = key.partition(".")[0]
    leaves = {name.rpartition(".")[2]: name for name in reversed(known)}
    if "." in key and first not in top:
        key = first
    hint = did_you_mean(key, top if "." not in key else known)
    if not hint and (near := did_you_mean(key, leaves)):
        leaf = near.removeprefix(" Did you mean ").removesuffix("?")
        hint = f" Did you mean {leaves[leaf]}?"
    return f"'{key}' is not a setting.{hint} `litlab fit --help-all` shows every one."


def _unknown_class(name: str, section: str) -> str:
    kind, what = _KINDS[section]
    known = [entry.name for entry in classes(kind)]
    if section == "trainer.callbacks":
        import lightning.pytorch.callbacks as theirs

        known += [name for name in theirs.__all__ if name[0].isupper()]
    return (
        f"{what}: '{name}' is not known.{did_you_mean(name, known)} `litlab list {kind}` shows all; "
        f"a class of your own is {_CLASS_PATH}."
    )


def trainer_refusal(message: str, given: dict[str, Any]) -> str:
    """The sentence for what Lightning's Trainer refuses: its own words, then the options that they are about.

    `given` are the options that are not at their default; those that the message quotes, else all of them.
    """
    quoted = {name: value for name, value in given.items() if name in message or f"'{value}'" in message}
    options = ", ".join(f"trainer.{name}={value}" for name, value in (quoted or given).items())
    advice = f" Change or leave out {options}." if options else ""
    return f"trainer: {one_line(message, 500).rstrip('.')}.{advice}"

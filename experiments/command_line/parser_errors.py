"""One sentence for a value that does not fit the type of its argument, read from jsonargparse's message.

Keys, classes and missing values are checked before the parser (`options/merge.py`, `options/class_check.py`); by hand,
because jsonargparse says "did you mean" for none of them and names neither the class nor the way out.
"""

from __future__ import annotations

import re
from typing import Any

from experiments.messages.formatting import did_you_mean, one_line

_KEY = re.compile(r"(?:Parser key|Key) ['\"]([^'\"]+)['\"]")
_EXPECTED = re.compile(r"Expected an? (?:<class '([^']+)'>|typing\.Literal\[(.+?)\](?:\.|\n|$))")
_NO_SUBCLASS = re.compile(r"Import path does not correspond to a subclass of (\w+)")
_VALUE = re.compile(r"(?:Given|Got) value: ?(.*?)(?:\n|$)")
_INNER = re.compile("\x02(.*?)\x03", re.S)
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


def explain_inner(message: str) -> str:
    """Return the sentence about an argument of a class.

    jsonargparse parses these with a parser of their own and quotes its error in the outer one. `explain` finds the
    sentence there by the marks around it, and fills in the section.
    """
    if match := _INNER.search(message):
        return match[0]
    sentence = _wrong_value(message)
    return f"\x02{{section}}.{sentence}\x03" if sentence else f"\x02{{section}}: {one_line(message)}\x03"


def explain(message: str) -> str:
    """Return the sentence for the outermost parser's message."""
    key = match[1] if (match := _KEY.search(message)) else ""
    if match := _INNER.search(message):
        return match[1].replace("{section}", key)
    return _wrong_value(message) or one_line(message, 600)


def _wrong_value(message: str) -> str | None:
    key, value = _KEY.search(message), _VALUE.search(message)
    if key is None or value is None:
        return None
    name, given = key[1], one_line(value[1], 100)
    if match := _NO_SUBCLASS.search(message):
        return f"{name}: '{given}' is not a {match[1]}. Name a class that derives from it."
    kinds: list[str] = []
    choices: list[str] = []
    for type_name, literal in _EXPECTED.findall(message):
        if literal:
            choices += [choice.strip(" '\"") for choice in literal.split(",")]
        else:
            kinds.append(_TYPES.get(type_name, type_name))
    if "Expected a dot import path string" in message:
        kinds.append(f"a class {_CLASS_PATH}")
    if choices:  # numbers among the choices are short for names
        kinds = [kind for kind in kinds if kind != "a whole number"]
    if name == "seed_everything":
        kinds = ["a whole number"]
    kinds.sort(key=lambda kind: kind == "null")
    if kinds == ["null"] and not choices:
        kinds = [f"a class {_CLASS_PATH}"]
    expected = " or ".join(dict.fromkeys([*choices, *kinds]))
    return f"{name} must be {expected or 'another value'}, got '{given}'.{did_you_mean(given, choices)}"


def trainer_refusal(message: str, given: dict[str, Any]) -> str:
    """Return the sentence for what Lightning's Trainer rejects: its own words, then the options they are about.

    `given` are the options that are not at their default; those that the message quotes are named, else all of them.
    """
    quoted = {name: value for name, value in given.items() if name in message or f"'{value}'" in message}
    options = ", ".join(f"trainer.{name}={value}" for name, value in (quoted or given).items())
    advice = f" Change or remove {options}." if options else ""
    return f"trainer: {one_line(message, 500).rstrip('.')}.{advice}"

"""Argument parser that explains a wrong value in one sentence, read from jsonargparse's message.

litlab checks keys, classes and missing values before the parser (`options/merge.py`, `options/class_check.py`),
because jsonargparse suggests no similar name and does not name the class or a fix.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean, one_line

_KEY = re.compile(r"(?:Parser key|Key) ['\"]([^'\"]+)['\"]")
_EXPECTED = re.compile(r"Expected an? (?:<class '([^']+)'>|typing\.Literal\[(.+?)\](?:\.|\n|$))")
_NO_SUBCLASS = re.compile(r"Import path does not correspond to a subclass of (\w+)")
_VALUE = re.compile(r"(?:Given|Got) value: ?(.*?)(?:\n|$)")
_INNER = re.compile("\x02(.*?)\x03", re.S)
_CLASS = "a class, given by its import path, such as my_module.MyClass"
_TYPES = {
    "NoneType": "null",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "dict": "a mapping",
    "list": "a list",
    "tuple": "a list",
    "collections.abc.Sequence": "a list",
    "collections.abc.Iterable": "a list",
}


class LitlabParser(LightningArgumentParser):
    """LightningArgumentParser that raises UserError instead of printing its usage.

    jsonargparse creates a parser of the same class for the arguments of each class, and quotes the error of this inner
    parser in that of the outer one. Marks around the inner sentence let the parser of the command, which has
    `outermost` set, find it and fill in the section.
    """

    outermost = False

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error in one sentence; jsonargparse and argparse call this for invalid arguments."""
        inner, sentence = _INNER.search(message), _wrong_value(message)
        if self.outermost:
            key = match[1] if (match := _KEY.search(message)) else ""
            text = inner[1].replace("{section}", key) if inner else sentence or one_line(message, 600)
        elif inner:
            text = inner[0]
        else:
            text = f"\x02{{section}}.{sentence}\x03" if sentence else f"\x02{{section}}: {one_line(message)}\x03"
        raise UserError(text) from ex


def _wrong_value(message: str) -> str | None:
    """Return the sentence for a value of the wrong type, or None if the message is about something else."""
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
        kinds.append(_CLASS)
    if choices:  # an integer among the choices is a short form of a name
        kinds = [kind for kind in kinds if kind != _TYPES["int"]]
    if name == "seed_everything":
        kinds = [_TYPES["int"]]
    kinds.sort(key=lambda kind: kind == "null")
    if kinds == ["null"] and not choices:
        kinds = [_CLASS]
    expected = " or ".join(dict.fromkeys([*choices, *kinds]))
    hint = did_you_mean(given, choices)
    return f"{name} must be {expected or 'another value'}, got '{given}'.{hint} Change or remove it."


def trainer_error(message: str, given: dict[str, Any]) -> str:
    """Return Lightning's message about invalid Trainer arguments, followed by the options to change.

    `given` has the options that differ from their default. The sentence names those that the message quotes, or all.
    """
    quoted = {name: value for name, value in given.items() if name in message or f"'{value}'" in message}
    options = ", ".join(f"trainer.{name}={value}" for name, value in (quoted or given).items())
    advice = f" Change or remove {options}." if options else ""
    return f"trainer: {one_line(message, 500).rstrip('.')}.{advice}"

"""The line of the user's own code in which an error occurred. Does not import torch."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.messages.formatting import one_line, shown

_OWN = Path(__file__).resolve().parents[2]
_PACKAGES = ("benchmarks", "callbacks", "configs", "datamodules", "experiments", "lit_models", "litlab")
_LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))
# A DataLoader's worker process sends its traceback as text.
_FRAME = re.compile(r'^ +File "(.+)", line (\d+), in (.+)\n(?: {4,}(.+)\n)?', re.MULTILINE)


@dataclass(frozen=True)
class Line:
    """One line of a traceback."""

    file: str
    number: int
    function: str
    code: str

    def __str__(self) -> str:
        code = f" (`{one_line(self.code, 100)}`)" if self.code else ""
        return f"{shown(Path(self.file))}, line {self.number}, in {self.function}{code}"


def users_line(error: BaseException) -> tuple[str, Line] | None:
    """Return type and message of an error and the innermost line of it that is not in litlab or a library, or None.

    If a library has wrapped the error of the user's code, these are of the original.
    """
    current: BaseException | None = error
    while current is not None:
        if found := [line for line in _lines(current) if _is_users(line.file)]:
            return _description(current), found[-1]
        current = current.__cause__ or current.__context__
    return None


def _description(error: BaseException) -> str:
    text = str(error)
    last = text.strip().splitlines()[-1] if "Original Traceback" in text else ""
    return one_line(last or "".join(traceback.format_exception_only(error)))


def _lines(error: BaseException) -> Iterator[Line]:
    for frame in traceback.extract_tb(error.__traceback__):
        yield Line(frame.filename, frame.lineno or 0, frame.name, frame.line or "")
    if "Original Traceback" in str(error):
        for file, number, function, code in _FRAME.findall(str(error)):
            yield Line(file, int(number), function, code.strip())


def _is_users(file: str) -> bool:
    path = Path(file)
    if not path.is_file():  # `<string>`, `<frozen importlib>`
        return False
    path = path.resolve()
    if path.is_relative_to(_OWN) and path.relative_to(_OWN).parts[0] in _PACKAGES:
        return False
    return not any(path.is_relative_to(folder) for folder in _LIBRARIES)

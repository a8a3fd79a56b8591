"""The rooms keep their direction, their size and their promises about names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("experiments", "lit_models", "datamodules", "callbacks", "configs")
MAY_IMPORT = {
    "experiments": {"experiments", "lit_models", "datamodules", "callbacks", "configs"},
    "lit_models": {"lit_models"},
    "datamodules": {"datamodules"},
    "callbacks": {"callbacks"},
    "configs": set(),
}
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    others = {name.split(".")[0] for name in imported(path)} & set(ROOMS)
    assert others <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_private_of_lightning_or_jsonargparse(path: Path) -> None:
    for name in imported(path):
        if name.startswith(("lightning", "jsonargparse", "torchmetrics", "torchvision")):
            assert not any(part.startswith("_") and not part.startswith("__") for part in name.split(".")), name


def test_benchmarks_stand_on_the_command_line_alone() -> None:
    for path in (ROOT / "benchmarks").glob("*.py"):
        assert not {name.split(".")[0] for name in imported(path)} & {"lit_models", "datamodules", "callbacks"}, path


@pytest.mark.parametrize("folder", [*ROOMS, "benchmarks", "tests"])
def test_no_file_is_over_300_lines(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path


def test_every_public_name_has_a_docstring() -> None:
    for room in ("lit_models", "datamodules", "callbacks"):
        module = __import__(room)
        for name in module.__all__:
            thing = getattr(module, name)
            if callable(thing):
                assert thing.__doc__, f"{room}.{name}"


def test_every_dependency_has_a_floor_with_a_reason() -> None:
    import tomllib

    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    project = tomllib.loads("\n".join(lines))["project"]
    for requirement in project["dependencies"]:
        (line,) = [line for line in lines if f'"{requirement}"' in line]
        assert ">=" in requirement
        assert "#" in line, f"{requirement} does not say why"

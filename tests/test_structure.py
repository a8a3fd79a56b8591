"""The packages keep the direction of their imports, their size and their public names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("litlab", "experiments", "lit_models", "datamodules", "callbacks", "configs")
MAY_IMPORT = {
    "litlab": {"litlab", "experiments"},
    "experiments": {"litlab", "experiments", "lit_models", "datamodules", "callbacks", "configs"},
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


# Folders of experiments/, each may import those before it; the modules beside them are highest.
FOLDERS = ("messages", "machine", "options", "runs", "reports", "studies", "commands", "command_line")
INSIDE = {path.relative_to(ROOT): imported(path) for path in SOURCES if path.is_relative_to(ROOT / "experiments")}


def folder_of(path: Path) -> str:
    return path.parts[1] if len(path.parts) > 2 else path.stem


def arrows() -> set[tuple[str, str]]:
    """Return (importer, imported) between the folders and top-level modules of experiments/."""
    names = {folder_of(path) for path in INSIDE}
    found = {(folder_of(path), name.split(".")[1]) for path, used in INSIDE.items() for name in used if "." in name
             and name.startswith("experiments.")}  # fmt: skip
    return {(here, there) for here, there in found if there in names and here != there}


def test_lower_folders_of_experiments_never_import_higher_ones() -> None:
    for here, there in arrows():
        if here in FOLDERS and there != "version":
            assert there in FOLDERS, f"{here} imports {there}"
            assert FOLDERS.index(there) < FOLDERS.index(here), f"{here} imports {there}"
    assert len(arrows()) <= 60


@pytest.mark.parametrize("package", ["experiments", "lit_models", "datamodules", "callbacks"])
def test_no_import_circle(package: str) -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in SOURCES}
    uses = {
        name: {module for module in modules for used in imported(path) if module not in (name, package)
               and (used == module or used.startswith(f"{module}."))}
        for name, path in modules.items() if name.startswith(package) and not name.endswith("__init__")
    }  # fmt: skip
    done: set[str] = set()

    def visit(name: str, on_the_way: tuple[str, ...]) -> None:
        assert name not in on_the_way, " -> ".join([*on_the_way, name])
        if name not in done:
            for used in sorted(uses.get(name, ())):
                visit(used, (*on_the_way, name))
            done.add(name)

    for name in uses:
        visit(name, ())


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

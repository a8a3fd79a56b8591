"""Tests of the imports within callbacks/ and of the one way to add and remove step hooks."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

from lightning.pytorch import Callback

from callbacks import NoStepHooks

ROOT = Path(__file__).parents[2]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in (ROOT / "callbacks").rglob("*.py")
    if path.name != "__init__.py"
}


def test_imports_within_callbacks_name_files_and_have_no_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for name, path in FILES.items():
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        own = [node for node in imports if str(node.module).partition(".")[0] == "callbacks"]
        graph[name] = set()
        for node in own:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}  # of `from callbacks.predictions import x`
            graph[name] |= {str(node.module)} if node.module in FILES else inner
        assert graph[name] <= set(FILES), name
    assert set(TopologicalSorter(graph).static_order()) == set(FILES)  # raises CycleError


def test_callbacks_change_their_hooks_by_one_method_only() -> None:
    for name, path in FILES.items():
        assert not re.search(r"self\.on_\w+ = ", path.read_text()), name


def test_a_step_hook_can_be_set_and_removed() -> None:
    class Sometimes(NoStepHooks, Callback):
        pass

    callback = Sometimes()
    assert callback.on_train_batch_start is None
    callback.set_step_hook("on_train_batch_start", print)
    assert callback.on_train_batch_start is print
    callback.set_step_hook("on_train_batch_start", None)
    assert callback.on_train_batch_start is None

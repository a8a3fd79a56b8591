"""Each bad input ends with one sentence that names offender and remedy, leaves nothing, and its mended twin runs."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.commands import board
from tests.experiments.bad_inputs.bad import Bad, parts, take
from tests.experiments.bad_inputs.checkpoints import CHECKPOINTS
from tests.experiments.bad_inputs.configs import CONFIGS
from tests.experiments.bad_inputs.data_files import FILES
from tests.experiments.bad_inputs.environments import ENVIRONMENTS
from tests.experiments.bad_inputs.flags import FLAGS
from tests.experiments.bad_inputs.oddities import ODDITIES
from tests.experiments.bad_inputs.own_parts import OWN
from tests.experiments.bad_inputs.pictures import PICTURES
from tests.experiments.bad_inputs.shelf import RUN_WORDS, fill
from tests.experiments.bad_inputs.trainer_flags import TRAINER
from tests.experiments.bad_inputs.verbs import VERBS
from tests.experiments.conftest import Command

TABLES = (FLAGS, TRAINER, CONFIGS, CHECKPOINTS, FILES, PICTURES, OWN, ENVIRONMENTS, VERBS, ODDITIES)
TABLE: dict[str, Bad] = {name: bad for table in TABLES for name, bad in table.items()}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good things: a config, a run, data, parts of one's own."""
    from experiments.cli import main

    root = tmp_path_factory.mktemp("shelf")
    fill(root)
    (root / "run").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root / "run")
        assert main(RUN_WORDS) == 0
    return root


@pytest.fixture(scope="module")
def mended() -> set[tuple[object, str]]:
    """Twins that have run: many bad inputs have the same."""
    return set()


def names(folder: Path) -> set[str]:
    """What a folder holds, at any depth; in the temporary one locks may stay, which belong to no file."""
    found = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)) for path in found if path.suffix != ".lock" or path.parent.name != "tmp"}


def test_the_table_is_long_and_every_row_says_what_to_look_for() -> None:
    assert len(TABLE) == sum(map(len, TABLES)) >= 100, "names are there once"
    assert len({(bad.words, bad.offence, tuple(bad.variables.items())) for bad in TABLE.values()}) == len(TABLE)
    for name, bad in TABLE.items():
        assert all(parts(bad.offender) + parts(bad.remedy)), name


@pytest.mark.parametrize("name", TABLE)
def test_a_bad_input_is_told_and_its_mended_twin_runs(
    name: str,
    litlab: Command,
    workshop: Path,
    session_cache: Path,
    shelf: Path,
    mended: set[tuple[object, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = TABLE[name]
    temporary = workshop / "tmp"
    for folder in ("tmp", "bad", "good"):
        (workshop / folder).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(board, "time", SimpleNamespace(sleep=close_the_board))

    monkeypatch.chdir(workshop / "bad")
    take(shelf, bad.given)
    if bad.offence is not None:
        bad.offence()
    before = names(workshop)
    with monkeypatch.context() as patch:
        for variable, value in bad.variables.items():
            patch.setenv(variable, value)
        result = litlab(*shlex.split(bad.words))
    assert result.code == bad.code, result.err
    for part in parts(bad.offender) + parts(bad.remedy):
        assert part in result.sentence
    assert len(result.sentence) < 1000
    assert names(workshop) == before
    assert not [path for path in session_cache.rglob("*") if path.name.startswith(".") or path.suffix == ".part"]

    if (twin := (bad.given, bad.twin)) in mended:
        return
    forget_own_parts()
    monkeypatch.chdir(workshop / "good")
    take(shelf, bad.given)
    result = litlab(*shlex.split(bad.twin))
    assert result.code == 0, result.err
    forget_own_parts()
    mended.add(twin)


def close_the_board(seconds: float) -> None:
    """The board waits for Ctrl-C."""
    raise KeyboardInterrupt


def forget_own_parts() -> None:
    """The next command is to read its own folder's."""
    for module in ("my_net", "my_data"):
        sys.modules.pop(module, None)

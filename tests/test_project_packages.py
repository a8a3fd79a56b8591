"""A project with folders named like litlab's packages: its class paths work, and litlab runs its own modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from litlab.packages import NAMES, claim_names
from tests.experiments.command_line.test_custom_components import PLAIN

ROOT = Path(__file__).parents[1]
# Raises if it runs as litlab's package: it has nothing that litlab needs.
INIT = "from .mine import Counter, Data, Net\n\nPROJECT = __name__\n"
CONFIG = """
monitor: val_loss
mode: min
model: {class_path: lit_models.mine.Net, init_args: {width: 4}}
data: {class_path: datamodules.mine.Data}
trainer:
  max_epochs: 1
  callbacks:
    - {class_path: callbacks.mine.Counter, init_args: {limit: 1}}
    - {class_path: experiments.mine.Counter, init_args: {limit: 2}}
    - {class_path: configs.mine.Counter, init_args: {limit: 3}}
    - {class_path: callbacks.gradients.Counter, init_args: {limit: 4}}
    - {class_path: callbacks.Gradients, init_args: {every_n_steps: 2}}
"""


def make_project(folder: Path, init: bool) -> None:
    """Write a package of each of litlab's names, with a model, data and a callback in its module `mine`."""
    for name in NAMES:
        (folder / name).mkdir()
        (folder / name / "mine.py").write_text(PLAIN)
        if init:
            (folder / name / "__init__.py").write_text(INIT)
    (folder / "callbacks/gradients.py").write_text(PLAIN)  # litlab had a module of this name before
    (folder / "lit_models/cnn.py").write_text(f"from lit_models import LitCNN\n{PLAIN}")  # and has one of this name


def run_script(folder: Path, text: str, *before: str) -> str:
    """Run a script of the project, whose folder comes first on the path, and return what it printed."""
    (folder / "script.py").write_text(textwrap.dedent(text))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, *(before or ("script.py",))]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


COMMANDS = """
    import contextlib, io, sys
    from pathlib import Path
    from litlab import main

    def litlab(*words):
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            code = main(list(words))
        print("END", code, err.getvalue())

    litlab("fit", "mine.yaml")
    litlab("test", "mine")
    litlab("fit", "mine.yaml", "--model=lit_models.cnn.Net", "--experiment=cnn")
    litlab("test", "cnn")
    litlab("fit", "mine.yaml", "--trainer.callbacks+=callbacks.mine.Missing")
    litlab("fit", "mine.yaml", "--trainer.callbacks+=callbacks.absent.Missing")
    if Path("callbacks/__init__.py").exists():
        litlab("fit", "--model=lit_models.Net", "--data=datamodules.Data", "--monitor=val_loss", "--mode=min",
               "--trainer.max_epochs=1", "--trainer.callbacks+=callbacks.Counter", "--trainer.callbacks.limit=1",
               "--experiment=short")
        for file in Path().glob("*/__init__.py"):
            file.write_text("raise RuntimeError('must not run')")
        litlab("fit", "mine.yaml")
"""


@pytest.mark.parametrize(
    "init", [pytest.param(False, marks=pytest.mark.slow, id="without init"), pytest.param(True, id="with init")]
)
def test_class_paths_into_all_five_folders(tmp_path: Path, init: bool) -> None:
    make_project(tmp_path, init)
    (tmp_path / "mine.yaml").write_text(CONFIG)
    printed = run_script(tmp_path, COMMANDS)
    ends = [line.removeprefix("END ") for line in printed.splitlines() if line.startswith("END ")]
    assert "counted 1\ncounted 2\ncounted 3\ncounted 4\n" in printed
    assert [end[0] for end in ends] == ["0", "0", "0", "0", "2", "2", *(["0", "0"] if init else [])]
    assert "'callbacks.mine.Missing' cannot be imported: callbacks.mine has no 'Missing'" in ends[4]
    assert "'callbacks.absent.Missing' cannot be imported" in ends[5]
    paths = ["lit_models.mine.Net", "datamodules.mine.Data", "callbacks.mine.Counter", "callbacks.Gradients"]
    for number in (0, 1) if init else (0,):
        config = (tmp_path / f"runs/mine/{number}/config.yaml").read_text()
        assert all(f"class_path: {path}\n" in config for path in paths)
    assert "class_path: lit_models.cnn.Net\n" in (tmp_path / "runs/cnn/0/config.yaml").read_text()
    sources = json.loads((tmp_path / "runs/cnn/0/environment.json").read_text())["sources"]
    assert {"lit_models/cnn.py", "callbacks/gradients.py", "callbacks/mine.py"} <= sources.keys()
    if init:
        assert "class_path: lit_models.Net\n" in (tmp_path / "runs/short/0/config.yaml").read_text()


LIGHT = """
    import sys
    {before}
    from litlab import fit, load_run, main
    import experiments, experiments.cli, configs
    for package in (experiments, configs):
        assert str(package.__file__).startswith({root!r}), package
    from experiments.other import NUMBER
    from configs import other
    assert NUMBER == other.NUMBER == 3
    import experiments.other
    assert experiments.other.NUMBER == 3
    assert "torch" not in sys.modules
    assert main(["--version"]) == 0
"""


@pytest.mark.parametrize("init", [False, True], ids=["without init", "with init"])
@pytest.mark.parametrize(
    "before", ["", "import experiments.other, configs.other"], ids=["litlab first", "project first"]
)
def test_a_script_imports_litlab_without_torch(tmp_path: Path, init: bool, before: str) -> None:
    for name in ("experiments", "configs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "other.py").write_text("NUMBER = 3\n")
        (tmp_path / name / "cli.py").write_text("raise RuntimeError('litlab has a module of this name')\n")
        if init:
            (tmp_path / name / "__init__.py").write_text("PROJECT = True\n")
    assert run_script(tmp_path, LIGHT.format(before=before, root=str(ROOT))).startswith("litlab 0.")
    if init:
        assert "True" in run_script(tmp_path, "import litlab, experiments\nprint(experiments.PROJECT)")
    assert "commands" in run_script(tmp_path, "", "-m", "litlab")


TRAINING = """
    {before}
    from litlab import fit, load_run
    from lit_models import LitClassifier, LitMLP
    from lit_models.mine import Net
    from datamodules.mine import Data
    from callbacks.mine import Counter
    from callbacks import Gradients
    from lit_models.cnn import LitCNN, Net as Other
    assert LitCNN.__module__ == Other.__module__ == "lit_models.cnn"

    run = fit(Net(width=4), Data(), experiment="script", monitor="val_loss", mode="min", max_epochs=1,
              callbacks=[Counter(limit=2), Gradients()], enable_model_summary=False)
    assert load_run("script").path == run.path
    print(type(load_run("script").model).__module__, load_run("script").config["model"]["class_path"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("init", [False, True], ids=["without init", "with init"])
@pytest.mark.parametrize(
    "before",
    ["", "from callbacks.mine import Counter; import lit_models.mine, experiments.mine"],
    ids=["litlab first", "project first"],
)
def test_a_script_trains_a_projects_own_classes(tmp_path: Path, init: bool, before: str) -> None:
    make_project(tmp_path, init)
    printed = run_script(tmp_path, TRAINING.format(before=before))
    assert "counted 2" in printed
    assert printed.splitlines()[-1] == "lit_models.mine lit_models.mine.Net"


def test_claiming_twice_changes_nothing() -> None:
    before = list(sys.meta_path)
    claim_names()
    assert sys.meta_path == before

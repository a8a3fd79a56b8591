"""Files that would run code when read are rejected with one sentence by every command, and no code runs."""

from __future__ import annotations

import ast
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments import load_run
from experiments.runs.checkpoint_content import read
from tests.edited_checkpoints import save_edited
from tests.experiments.conftest import Command
from tests.test_structure import SOURCES

SMALL = ("--trainer.max_epochs=1", "--data.train_fraction=0.2", "--trainer.enable_model_summary=false")
RUN = Path("runs/mlp_digits/0")
MARKER = Path("ran")


class Evil:
    """Creates a file when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {MARKER}",)


class EvilDict(dict[str, Any]):
    """Mapping that creates a file when unpickled."""

    __reduce__ = Evil.__reduce__  # type: ignore[assignment]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A folder of runs with one trained run."""
    folder = tmp_path_factory.mktemp("honest")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LITLAB_DATA_DIR", str(tiny_data))
        from experiments.cli import main

        assert main(["fit", "mlp_digits", *SMALL]) == 0
    os.environ.pop("LITLAB_RUN_FOLDER", None)
    os.environ.pop("LITLAB_MACHINE_CHOICE", None)
    return folder / "runs"


@pytest.fixture
def content(workshop: Path, honest: Path) -> Iterator[dict[str, Any]]:
    """The content of a checkpoint of the run, which is copied to the working folder."""
    shutil.copytree(honest, workshop / "runs")
    yield torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)
    assert not MARKER.exists(), "code from the file ran"


def saved(content: object, zipped: bool = True) -> bytes:
    torch.save(content, "evil.ckpt", _use_new_zipfile_serialization=zipped)
    return Path("evil.ckpt").read_bytes()


def in_hyper_parameters(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "hyper_parameters": {**content["hyper_parameters"], "hidden": [[16], {"deep": [Evil()]}]}}


def in_optimizer_state(content: dict[str, Any]) -> dict[str, Any]:
    (state,) = content["optimizer_states"]
    return {**content, "optimizer_states": [{**state, "state": {0: {"exp_avg": Evil()}}}]}


FILES: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "pickle 0": lambda _: b"cos\nsystem\n(S'touch ran'\ntR.",
    "pickle 2": lambda _: pickle.dumps(Evil(), protocol=2),
    "pickle 5": lambda content: pickle.dumps({**content, "state_dict": Evil()}, protocol=5),
    "hyper-parameter": lambda content: saved(in_hyper_parameters(content)),
    "hyper-parameter, old format": lambda content: saved(in_hyper_parameters(content), zipped=False),
    "optimizer state": lambda content: saved(in_optimizer_state(content)),
    "optimizer state, old format": lambda content: saved(in_optimizer_state(content), zipped=False),
    "state dict": lambda content: saved({**content, "state_dict": EvilDict()}),
}
COMMANDS = {
    "fit": ["fit", "mlp_digits", *SMALL, "--ckpt_path=evil.ckpt"],
    "test": ["test", "mlp_digits", "--ckpt_path", "evil.ckpt"],
    "test, file first": ["test", str(RUN / "checkpoints/last.ckpt")],
    "test, last": ["test", "mlp_digits", "--ckpt_path=last"],
    "test, best": ["test", "mlp_digits"],
    "validate": ["validate", "mlp_digits"],
    "predict": ["predict", "mlp_digits"],
    "resume": ["resume", "mlp_digits"],
}
IN_PYTHON: dict[str, Callable[[], object]] = {
    "model": lambda: load_run("mlp_digits").model,
    "load": lambda: load_run("mlp_digits").load("last"),
    "data": lambda: load_run("mlp_digits").data,
    "test": lambda: load_run("mlp_digits").test(),
    "resume": lambda: load_run("mlp_digits").resume(),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_checkpoint_that_would_run_code_is_rejected_everywhere(
    litlab: Command, content: dict[str, Any], kind: str
) -> None:
    evil = FILES[kind](content)
    for name in ("evil.ckpt", RUN / "checkpoints/best.ckpt", RUN / "checkpoints/last.ckpt"):
        Path(name).write_bytes(evil)
    for name, words in COMMANDS.items():
        result = litlab(*words)
        assert result.code == 2, name
        assert ".ckpt cannot be loaded: it " in result.sentence, name
        assert not MARKER.exists(), name
        if kind != "pickle 0":  # which looks like plain text
            assert "runs code from a file" in result.sentence, result.sentence
    for name, use in IN_PYTHON.items():
        if name == "data":
            continue
        with pytest.raises(MisconfigurationException, match=r"\.ckpt cannot be loaded"):
            use()
        assert not MARKER.exists(), name
    assert [path.name for path in Path("runs/mlp_digits").iterdir()] == ["0"], (
        "no folder for a run that was not trained"
    )
    assert len(load_run("mlp_digits").results) == 1


def test_these_files_run_code_if_python_unpickles_them(content: dict[str, Any]) -> None:
    for kind, make in FILES.items():
        path = Path("evil.ckpt")
        path.write_bytes(make(content))
        if kind.startswith("pickle"):
            pickle.loads(path.read_bytes())
        else:
            torch.load(path, weights_only=False)
        assert MARKER.exists(), kind
        MARKER.unlink()


def test_paths_inside_a_checkpoint_write_no_files(content: dict[str, Any]) -> None:
    whole = RUN / "checkpoints/last.ckpt"
    before = {path for path in Path.cwd().parent.rglob("*") if path.is_file()}
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile("evil.ckpt", "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
            if "/.data/" in entry.filename:
                new.writestr(f"{entry.filename}/../../../../ran", b"1")
                new.writestr(f"../{MARKER}", b"1")
    try:
        assert read(Path("evil.ckpt")).keys() == content.keys()
    except MisconfigurationException as error:
        assert "\n" not in str(error)  # noqa: PT017
    after = {path for path in Path.cwd().parent.rglob("*") if path.is_file()}
    assert after - before == {Path.cwd() / "evil.ckpt"}


def test_a_checkpoint_in_the_old_format_of_torch_is_read(litlab: Command, content: dict[str, Any]) -> None:
    saved(content, zipped=False)
    result = litlab("test", "mlp_digits", "--ckpt_path=evil.ckpt")
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state_dict": 3}, "has no `state_dict`"),
        ({"state_dict": {}}, "has no `state_dict` of tensors"),
        ({"state_dict": {"net.0.weight": "text"}}, "has no `state_dict` of tensors"),
        ({"litlab": {"version": "7.1", "format": 2}}, "was written by litlab 7.1 in format 2, and this is litlab 0."),
        ({"litlab": "odd"}, "was written by litlab ? in format ?"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_plain_data_that_is_not_a_checkpoint_is_rejected(
    litlab: Command, content: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    for name in ("best", "last"):
        save_edited({**content, **change}, RUN / f"checkpoints/{name}.ckpt")
    for verb in ("test", "resume"):
        result = litlab(verb, "mlp_digits")
        assert result.code == 2
        assert words in result.sentence
    with pytest.raises(MisconfigurationException, match=words[:20]):
        load_run("mlp_digits").load()


@pytest.mark.parametrize("missing", ["loops", "optimizer_states", "lr_schedulers", "epoch", "global_step"])
def test_an_incomplete_checkpoint_can_be_tested_but_not_resumed(
    litlab: Command, content: dict[str, Any], missing: str
) -> None:
    del content[missing]
    save_edited(content, RUN / "checkpoints/last.ckpt")
    for words in (["resume", "mlp_digits"], ["fit", "mlp_digits", f"--ckpt_path={RUN}", *SMALL]):
        result = litlab(*words)
        assert result.code == 2, result.err
        assert f"has no `{missing}`: it can be tested, but training cannot continue" in result.sentence
    assert litlab("test", "mlp_digits", "--ckpt_path=last").code == 0


TAG = '!!python/object/apply:os.system ["touch ran"]'


def test_a_config_that_would_run_code_runs_nothing(litlab: Command, content: dict[str, Any]) -> None:
    Path("evil.yaml").write_text(f"model: {TAG}\n")
    Path("section.yaml").write_text("data: evil.yaml\n")
    for words in (
        ["fit", "evil.yaml"],
        ["fit", "section.yaml"],
        ["data", "evil.yaml"],
        ["test", "mlp_digits", "-c", "evil.yaml"],
    ):
        result = litlab(*words)
        assert result.code == 2, words
        assert "evil.yaml is not valid YAML" in result.sentence
    for flag in ("--model.hidden", "--model.optimizer", "--data.augment", "--trainer.callbacks+", "--seed_everything"):
        assert litlab("fit", "mlp_digits", f"{flag}={TAG}", *SMALL).code == 2, flag
        assert not MARKER.exists(), flag
    config = RUN / "config.yaml"
    honest_text = config.read_text()
    config.write_text(f"{honest_text}odd: {TAG}\n")
    for verb in ("test", "validate", "predict", "resume"):
        assert "config.yaml is not valid YAML" in litlab(verb, "mlp_digits").sentence
    with pytest.raises(MisconfigurationException, match=r"config.yaml is not valid YAML"):
        load_run("mlp_digits").config  # noqa: B018
    config.write_text(honest_text)
    for text in (f"odd: {TAG}", "- no mapping", 3):
        save_edited({**content, "config": text}, RUN / "checkpoints/last.ckpt")
        assert "the config in" in litlab("resume", "mlp_digits").sentence


@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "builtins.exec"])
def test_a_config_without_a_model_class_builds_nothing(litlab: Command, content: dict[str, Any], path: str) -> None:
    config = RUN / "config.yaml"
    config.write_text(re.sub(r"class_path: \S*LitMLP", f"class_path: {path}", config.read_text()))
    content["hyper_parameters"] = {"command": "touch ran", "args": "touch ran", "_instantiator": "os.system"}
    for name in ("best", "last"):
        save_edited(content, RUN / f"checkpoints/{name}.ckpt")
    for verb in ("test", "resume"):
        result = litlab(verb, "mlp_digits")
        assert result.code == 2, result.err
    with pytest.raises(MisconfigurationException, match=f"{path} in .* is not a LightningModule"):
        load_run("mlp_digits").load()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_source_reads_plain_data_only(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in (
            "pickle",
            "yaml",
            "marshal",
            "shelve",
            "joblib",
            "dill",
        ):
            assert {alias.name for alias in node.names} == set(), ast.unparse(node)
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
            assert not names & {"pickle", "marshal", "shelve", "joblib", "dill"}, ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        call, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        if call in ("torch.load", "torch.jit.load") or call.endswith(".load_from_checkpoint") or "ckpt_path" in given:
            assert given.get("weights_only") == "True", ast.unparse(node)
        if call == "yaml.load":
            assert (path.name, ast.unparse(node.args[1])) == ("config_files.py", "Loader"), "a child of SafeLoader"
        assert call not in ("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "eval", "exec")
        assert given.get("allow_pickle", "False") == "False", ast.unparse(node)

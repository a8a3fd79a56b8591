"""A working folder of its own for each test, with tiny data in the true formats, and commands run in one process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch  # noqa: F401 - its log handler keeps the stderr of this import, which must stay open
import pytest
import torch

from tests.data import makers

ROOT = Path(__file__).parents[2]
# Values handed on to the processes of one run.
HANDED_ON = tuple(f"LITLAB_HANDED_{name}" for name in ("RUN_FOLDER", "MACHINE_CHOICE", "SOURCE", "PORT"))


@dataclass
class Outcome:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The line of a mistake, checked to be one line and no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("litlab:")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err + self.out, self.err
        return lines[0]


Command = Callable[..., Outcome]


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST, FashionMNIST and CIFAR10 of a few hundred images for torchvision's own readers, and a folder of JPEGs."""
    root = tmp_path_factory.mktemp("tiny")
    makers.make_mnist(root)
    makers.make_fashion_mnist(root)
    makers.make_cifar10(root)
    makers.make_image_folder(root)
    return root


@pytest.fixture
def workshop(tmp_path: Path, tiny_data: Path, session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder; runs go below it, data comes from `tiny_data`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LITLAB_DATA_DIR", str(tiny_data))
    monkeypatch.setenv("LITLAB_CACHE_DIR", str(session_cache))
    for name in ("LITLAB_RUNS_DIR", *HANDED_ON):
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    before = set(sys.modules)
    yield tmp_path
    torch.set_num_threads(threads)
    for name in HANDED_ON:
        os.environ.pop(name, None)
    for name in set(sys.modules) - before:  # a test's own modules must not meet the next test's
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def litlab(workshop: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run one command in this process, as the console script does."""
    from experiments.cli import main

    def run(*words: str) -> Outcome:
        capfd.readouterr()
        code = main(list(words))
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run

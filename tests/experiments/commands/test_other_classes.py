"""Runs on data without image folders: class order, classes of another dataset, and vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments import load_run
from tests.experiments.commands.test_other_data import fingerprint
from tests.experiments.conftest import Command

ORDER = """
from datamodules import LitDataModule
import torch

class Letters(LitDataModule):
    input_shape = (2,)
    num_classes = 3

    def __init__(self, order: str = "abc", **options):
        super().__init__(**options)
        self.class_names = tuple(order)

    def load_part(self, split):
        letters = [letter for letter in "abc" for _ in range(20)]
        x = torch.randn(60, 2, generator=torch.Generator().manual_seed(len(split)))
        x += torch.tensor([[ord(letter) - 98.0, 0.0] for letter in letters])
        return x, torch.tensor([self.numbers[letter] for letter in letters])

    @property
    def numbers(self):
        return {letter: number for number, letter in enumerate(self.hparams.order)}
"""


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_classes_in_another_order_are_mapped_by_name(litlab: Command, workshop: Path, verb: str) -> None:
    (workshop / "letters_data.py").write_text(ORDER)
    base = ["--model=LitLogisticRegression", "--data=letters_data.Letters", "--trainer.max_epochs=3"]
    assert litlab("fit", "--config", str(_empty(workshop)), *base).code == 0
    own, other = (litlab(verb, "empty", *options) for options in ((), ("--data.order=cab",)))
    assert own.code == other.code == 0, own.err + other.err
    if verb == "predict":
        files = [workshop / "runs/empty/0" / name for name in ("predictions.csv", "predictions-2.csv")]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert "prediction_name" in files[0].read_text()
    else:
        first, second = (record["metrics"] for record in load_run("empty").results[-2:])
        assert first == second
    rejected = litlab("resume", "empty", "--data.order=cab", "--trainer.max_epochs=4")
    assert (rejected.code, "data.order" in rejected.sentence) == (2, True)


def _empty(folder: Path) -> Path:
    path = folder / "empty.yaml"
    path.write_text("trainer: {enable_progress_bar: false, enable_model_summary: false}\n")
    return path


@pytest.fixture
def fashion(litlab: Command, workshop: Path) -> Path:
    """The folder of a tested run on FashionMNIST."""
    base = ["--model=LitLogisticRegression", "--data=FashionMNISTDataModule", "--trainer.max_epochs=1"]
    assert litlab("fit", "--config", str(_empty(workshop)), *base, "--test_after_fit=true").code == 0
    return workshop / "runs/empty/0"


def test_other_classes_are_rejected_for_a_fashion_run(litlab: Command, fashion: Path, tiny_data: Path) -> None:
    before = fingerprint(fashion)
    folder = ["--data=ImageFolderDataModule", f"--data.data_dir={tiny_data}", "--data.channels=1"]
    for arguments in (
        ["test", "empty", "--data=MNISTDataModule"],
        ["predict", "empty", *folder, "--data.image_size=28"],
    ):
        result = litlab(*arguments)
        assert result.code == 2, result.out
        assert "T-shirt/top, Trouser" in result.sentence
        assert ("airplane, automobile" if "predict" in arguments else "0, 1, 2, 3") in result.sentence
    assert fingerprint(fashion) == before


def test_a_text_run_keeps_its_vocabulary(litlab: Command, workshop: Path) -> None:
    (workshop / "own.txt").write_text("the cat sat on the mat\n" * 200)
    (workshop / "other.txt").write_text("zebras quickly jump over the fox and vex it\n" * 200)
    base = ["--model=LitTokenLSTM", "--data=TextDataModule", "--data.path=own.txt", "--data.sequence_length=16"]
    assert litlab("fit", "--config", str(_empty(workshop)), *base, "--trainer.max_epochs=1").code == 0
    result = litlab("test", "empty", "--data.path=other.txt")
    assert result.code == 0, result.err
    assert list((workshop / "runs/empty/0/other_data").glob("TextDataModule-*/results.json"))
    run = load_run("empty")
    names: Any = run.data.class_names
    assert names == ("<unk>", *sorted(set((workshop / "own.txt").read_text())))
    rejected = litlab("test", "empty", "--data.level=word")
    assert (rejected.code, "level" in rejected.sentence) == (2, True)

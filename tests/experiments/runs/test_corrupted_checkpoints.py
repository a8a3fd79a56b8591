"""Checkpoints whose bits rotted, or that fit no longer, are rejected by name, and what is saved can be loaded."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import load_run
from tests.edited_checkpoints import save_edited
from tests.experiments.conftest import Command

SMALL = ("--data.train_fraction=0.1", "--model.hidden=[8]", "--trainer.enable_model_summary=false")
FIT = ("fit", "mlp_digits", "--model.scheduler=null", "--trainer.max_epochs=1", *SMALL)
RESUME = ("resume", "mlp_digits", "--trainer.max_epochs=2")
RUN = Path("runs/mlp_digits/0")
BEST, LAST = RUN / "checkpoints/best.ckpt", RUN / "checkpoints/last.ckpt"

Content = dict[str, Any]


@pytest.fixture
def trained(litlab: Command) -> Content:
    """The content of last.ckpt of a run of one epoch."""
    result = litlab(*FIT)
    assert result.code == 0, result.err
    content: Content = torch.load(LAST, weights_only=True)
    return content


def flip(path: Path, entry: str, number: int = 64) -> None:
    """Invert bytes in the middle of an entry of the archive."""
    with zipfile.ZipFile(path) as archive:
        info = max((i for i in archive.infolist() if entry in i.filename), key=lambda i: i.file_size)
        content = archive.read(info)
    data = bytearray(path.read_bytes())
    start = data.index(content) + len(content) // 2
    data[start : start + number] = bytes(byte ^ 0xFF for byte in data[start : start + number])
    path.write_bytes(data)


@pytest.mark.parametrize("number", [1, 64])
def test_flipped_bytes_are_found_by_every_command(litlab: Command, trained: Content, number: int) -> None:
    for path in (BEST, LAST):
        flip(path, "/data/", number)
    for words in (("test", "mlp_digits"), ("validate", "mlp_digits"), ("predict", "mlp_digits"), RESUME):
        result = litlab(*words)
        assert result.code == 2, words
        assert f"{path.parent}/" in result.sentence
        assert "was changed or corrupted after litlab wrote it" in result.sentence
        assert "copy of the file" in result.sentence
    with pytest.raises(Exception, match="changed or corrupted"):
        load_run("mlp_digits").load("last")
    assert len(load_run("mlp_digits").results) == 1


def test_flipped_bytes_are_found_without_a_stored_sum(litlab: Command, trained: Content) -> None:
    save_edited(trained, BEST)
    assert litlab("test", "mlp_digits").code == 0
    flip(BEST, "/data/")
    result = litlab("test", "mlp_digits")
    assert result.code == 2
    assert "checksum of its archive is wrong" in result.sentence


@pytest.mark.filterwarnings("ignore:best.ckpt was removed")
def test_a_corrupted_best_checkpoint_is_named_before_a_resume(litlab: Command, trained: Content) -> None:
    flip(BEST, "/data/")
    result = litlab(*RESUME)
    assert result.code == 2
    assert "best.ckpt was changed or corrupted" in result.sentence
    assert "delete the file" in result.sentence
    BEST.unlink()
    assert litlab(*RESUME).code == 0
    assert BEST.is_file()


def swap_weights(content: Content) -> None:
    weights = content["state_dict"]
    first, second = [name for name in weights if name.endswith("weight")][:1] * 2
    weights[first] = weights[second].flip(0)


@pytest.mark.parametrize(
    "change",
    [
        swap_weights,
        lambda content: content["optimizer_states"][0]["param_groups"][0].update(lr=1e6),
        lambda content: content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"].update(ready=7),
        lambda content: content["exact_state"][0]["random"].clear(),
        lambda content: content.pop("exact_state"),
        lambda content: content["state_dict"]["net.layers.0.weight"].fill_(float("nan")),
        lambda content: content["callbacks"].popitem(),
        lambda content: content["litlab"].update(sha256="0" * 64),
    ],
)
def test_a_change_of_any_value_is_found(litlab: Command, trained: Content, change: Callable[[Content], object]) -> None:
    change(trained)
    torch.save(trained, LAST)
    result = litlab(*RESUME)
    assert result.code == 2
    assert "last.ckpt was changed or corrupted" in result.sentence


def test_a_checkpoint_that_was_only_saved_again_is_intact(litlab: Command, trained: Content) -> None:
    torch.save(trained, LAST)
    assert litlab(*RESUME).code == 0


IMPLAUSIBLE: dict[str, tuple[Callable[[Content], object], str]] = {
    "NaN": (lambda c: c["state_dict"]["net.layers.0.weight"].fill_(float("nan")), "`net.layers.0.weight` are NaN"),
    "negative epoch": (lambda c: c.update(epoch=-3), "its `epoch` is -3"),
    "negative counter": (
        lambda c: c["loops"]["fit_loop"]["epoch_progress"]["current"].update(processed=-1),
        "its `loops.fit_loop.epoch_progress.current.processed` is -1",
    ),
    "empty loops": (lambda c: c["loops"].clear(), "has no `loops`"),
    "empty fit_loop": (lambda c: c["loops"]["fit_loop"].clear(), "`loops` do not contain the finished epochs"),
    "no batch counter": (
        lambda c: c["loops"]["fit_loop"].pop("epoch_loop.batch_progress"),
        "its `loops.fit_loop.epoch_loop.batch_progress` is missing",
    ),
    "no exact_state": (lambda c: c.pop("exact_state"), "has no `exact_state`"),
    "empty exact_state": (lambda c: c["exact_state"][0].clear(), "`exact_state` has no complete `random`"),
    "no torch state": (lambda c: c["exact_state"][0]["random"].pop("torch"), "`exact_state` has no complete `random`"),
    "integer weights": (
        lambda c: c["state_dict"].update({"net.layers.0.weight": torch.zeros(8, 64, dtype=torch.int64)}),
        "net.layers.0.weight is 8x64 of integers there",
    ),
}


@pytest.mark.parametrize("name", IMPLAUSIBLE)
def test_values_that_cannot_be_right_are_named_without_a_stored_sum(
    litlab: Command, trained: Content, name: str
) -> None:
    change, words = IMPLAUSIBLE[name]
    change(trained)
    save_edited(trained, LAST)
    result = litlab(*RESUME)
    assert result.code == 2
    assert words in result.sentence


def test_intact_weights_are_tested_although_the_run_cannot_continue(litlab: Command, trained: Content) -> None:
    del trained["exact_state"]
    save_edited(trained, LAST)
    for command in ("test", "validate", "predict"):
        assert litlab(command, "mlp_digits", "--ckpt_path=last").code == 0


def test_another_file_in_the_place_of_the_best_is_reported(litlab: Command, trained: Content) -> None:
    assert "results.json" not in litlab("test", "mlp_digits").out
    assert litlab(*FIT, "--seed_everything=7").code == 0
    shutil.copy("runs/mlp_digits/1/checkpoints/best.ckpt", BEST)
    result = litlab("test", str(RUN))
    assert result.code == 0
    assert "best.ckpt is not the file that results.json names" in result.out
    resumed = litlab("resume", str(RUN), "--trainer.max_epochs=3")
    assert resumed.code == 0
    assert "best.ckpt is not the file that results.json names" in resumed.out


def test_a_better_epoch_of_a_killed_resume_is_not_reported(litlab: Command, trained: Content) -> None:
    results = (RUN / "results.json").read_text()
    assert litlab(*RESUME).code == 0
    (RUN / "results.json").write_text(results)  # as if it had been killed before the end
    result = litlab("test", "mlp_digits")
    assert "epoch 2" in result.out
    assert "results.json" not in result.out

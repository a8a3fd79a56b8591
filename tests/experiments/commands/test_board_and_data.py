"""`litlab board` and `litlab data`."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.commands import board
from experiments.commands.data import fingerprints
from tests.experiments.conftest import ROOT, Command


def test_the_board_serves_the_runs_on_this_machine_alone_and_ends_on_ctrl_c(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", "mlp_digits", "--trainer.max_epochs=1").code == 0
    child = subprocess.Popen(
        [sys.executable, "-m", "experiments", "board"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line
        with urllib.request.urlopen(f"{found[0]}data/environment", timeout=20) as answer:
            assert b"runs" in answer.read()
    finally:
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=30)
    assert child.returncode == 0
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1] == "litlab: TensorBoard has stopped."


def test_a_taken_port_and_other_mistakes(litlab: Command, workshop: Path) -> None:
    assert "does not exist yet" in litlab("board").sentence
    (workshop / "runs").mkdir()
    with socket.socket() as taken:
        taken.bind((board.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = litlab("board", "--port", str(port))
        assert result.code == 2
        assert "in use" in result.sentence
        assert board.free_port() != port
    for words, expected in ((["--port=x"], "number"), (["a", "b"], "one folder"), (["--bind_all"], "unrecognized"),
                            (["nothing"], "neither a run")):  # fmt: skip
        result = litlab("board", *words)
        assert result.code == 2
        assert expected in result.sentence


def test_data_shows_sizes_statistics_balance_and_equal_samples(litlab: Command, workshop: Path) -> None:
    result = litlab(
        "data", "cnn_fashion_mnist", "--data.val_split=40", "--data.augment=[flip, {name: crop, padding: 2}]"
    )
    assert result.code == 0, result.err
    for words in ("FashionMNISTDataModule: ", "1x28x28", "channel 0: mean", "validation", "Trouser", "equal"):
        assert words in result.out, words
    folder = workshop / "runs/data/cnn_fashion_mnist"
    with Image.open(folder / "samples.png") as picture:
        assert picture.width > picture.height > 200
    events = EventAccumulator(str(folder))
    events.Reload()
    assert events.Tags()["images"] == ["data/samples"]
    assert not [path for path in (workshop / "runs").iterdir() if path.name != "data"], "no run folder"


@pytest.mark.parametrize("config", ["mlp_sine", "logistic_threshold", "lstm_text", "mlp_digits", "cnn_image_folder"])
def test_other_kinds_of_data(litlab: Command, workshop: Path, config: str) -> None:
    words = [] if config != "cnn_image_folder" else ["--data.val_split=4"]
    result = litlab("data", config, *words)
    assert result.code == 0, result.err
    assert "sample " in result.out


def test_equal_samples_have_equal_fingerprints() -> None:
    inputs = torch.randint(0, 255, (10, 3, 4, 4), dtype=torch.uint8)
    inputs[7] = inputs[2]
    found = fingerprints(inputs, torch.arange(10))
    assert found[7] == found[2]
    assert len(set(found)) == 9


def test_foreign_data_is_told(litlab: Command, workshop: Path) -> None:
    (workshop / "mine.py").write_text(
        "from lightning.pytorch.demos.boring_classes import BoringDataModule\nclass Mine(BoringDataModule): pass\n"
    )
    result = litlab("data", "mlp_digits", "--data=mine.Mine")
    assert result.code == 2
    assert "Mine" in result.sentence

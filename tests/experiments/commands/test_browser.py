"""What `litlab board` shows in a real browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import browser
from tests.experiments.conftest import ROOT, Command

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.chromium() is None, reason="needs Chromium: apt install chromium"),
]


@pytest.fixture
def address(litlab: Command, workshop: Path) -> Iterator[str]:
    """A board on three small runs."""
    small = ("--trainer.max_epochs=2", "--data.val_split=40", "--data.batch_size=32")
    for rate in ("0.001", "0.002", "0.003"):
        assert litlab("fit", "cnn_fashion_mnist", *small, f"--model.optimizer.lr={rate}").code == 0
    words = [sys.executable, "-m", "experiments", "board"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        found = re.search(r"http://\S+", child.stdout.readline())
        try:
            assert found
            yield found[0]
        finally:
            child.send_signal(signal.SIGTERM)


TABS = {
    "timeseries": ("activations", "features.1"),
    "scalars&tagFilter=train%2Floss": ("train/loss",),
    "custom_scalars": ("train and val", "loss", "acc"),
    "images": ("feature_maps", "val/confusion_matrix"),
    "histograms&tagFilter=weights": ("weights/features.0.weight",),
    "graphs": ("Fit to screen",),
    "hparams": ("hp/val/acc", "cnn_fashion_mnist/0", "cnn_fashion_mnist/2"),
    "text": ("run/settings", "val/class_report"),
    "projector": ("embeddings",),
}


@pytest.mark.slow
def test_every_tab_shows_the_runs(address: str, tmp_path: Path) -> None:
    missing: dict[str, list[str]] = {}
    with browser.page(tmp_path / "profile") as page:
        for tab, words in TABS.items():
            page.open(f"{address}#{tab}")
            text = page.wait_for(*words, seconds=40)
            missing[tab] = [word for word in words if word not in text]
    assert missing == {tab: [] for tab in TABS}

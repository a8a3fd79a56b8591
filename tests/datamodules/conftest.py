"""Fixtures of the datamodule tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Isolate tests from the machine's data, cache and working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LITLAB_CACHE_DIR", raising=False)
    monkeypatch.setenv("LITLAB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("datamodules.files.find_dataset.PACKAGE_DIRS", {})
    torch.manual_seed(0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder named by LITLAB_DATA_DIR, not yet created."""
    return tmp_path / "data"

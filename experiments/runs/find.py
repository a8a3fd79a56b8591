"""Search for run folders by path or by experiment name. Does not import torch."""

from __future__ import annotations

import os
from pathlib import Path

from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean, one_line, say

_BEST = "checkpoints/best.ckpt"  # as `RunFolder.best`, which needs torch


def runs_dir() -> Path:
    """Return the folder of all runs: LITLAB_RUNS_DIR, else `runs` in the working folder."""
    path = Path(os.environ.get("LITLAB_RUNS_DIR") or "runs")
    try:
        return path.expanduser()
    except RuntimeError:
        raise UserError(f"LITLAB_RUNS_DIR: the home folder in {path} is unknown. Set an absolute path.") from None


def runs() -> list[Path]:
    """Return all run folders in `runs_dir()`, sorted by experiment and number."""
    try:
        return _numbered(runs_dir(), "*/*")
    except OSError as error:
        raise UserError(
            f"LITLAB_RUNS_DIR: the folder {runs_dir()} cannot be read ({error.strerror}). Set another folder, or fix "
            "its permissions."
        ) from error


def _numbered(folder: Path, pattern: str) -> list[Path]:
    found = [path.parent for path in folder.glob(f"{pattern}/config.yaml") if path.parent.name.isdigit()]
    return sorted(found, key=lambda run: (run.parent.name, int(run.name)))


def find_run(name: str, trained: bool = True) -> Path:
    """Return a run by its folder, or the newest run of an experiment; `trained` skips runs without weights."""
    path = Path(name)
    if os.path.isfile(path / "config.yaml"):
        return path
    experiments: dict[str, list[Path]] = {}
    for run in runs():
        experiments.setdefault(run.parent.name, []).append(run)
    if name in experiments:
        return _newest(experiments[name], trained)
    if os.path.isfile(runs_dir() / name / "config.yaml"):
        return runs_dir() / name
    if os.path.isdir(path) and (inside := _numbered(path, "*")):
        return _newest(inside, trained)
    raise UserError(
        f"run: '{one_line(name, 100)}' is neither a run folder nor an experiment in {runs_dir()}."
        f"{did_you_mean(name, experiments)} `litlab list runs` shows all; `litlab fit CONFIG` creates one."
    )


def _newest(runs: list[Path], trained: bool) -> Path:
    """Return the newest run with weights, and print which newer one is skipped; the newest of all if none has any."""
    with_weights = [run for run in runs if (run / _BEST).is_file()] if trained else []
    newest = with_weights[-1] if with_weights else runs[-1]
    if newest != runs[-1]:
        say(f"run: {runs[-1]} has no weights yet; using {newest}.")
    return newest

"""Finding run folders by path or by experiment name."""

from __future__ import annotations

import os
from pathlib import Path

from experiments.messages.errors import UserError
from experiments.messages.formatting import did_you_mean, one_line, say


def runs_dir() -> Path:
    """Return the folder of all runs: LITLAB_RUNS_DIR, else `runs` in the working folder."""
    path = Path(os.environ.get("LITLAB_RUNS_DIR") or "runs")
    try:
        return path.expanduser()
    except RuntimeError:
        raise UserError(f"LITLAB_RUNS_DIR: the home folder in {path} is unknown. Set an absolute path.") from None


def runs() -> list[Path]:
    """Return all run folders below `runs_dir`, sorted by experiment and number."""
    found = [path.parent for path in runs_dir().glob("*/*/config.yaml") if path.parent.name.isdigit()]
    return sorted(found, key=lambda run: (run.parent.name, int(run.name)))


def find_run(name: str, trained: bool = True) -> Path:
    """Return a run by its folder, or the newest run of an experiment; `trained` skips runs without weights."""
    newest = _newest_trained if trained else (lambda numbered: numbered[-1])
    path = Path(name)
    if os.path.isfile(path / "config.yaml"):
        return path
    experiments: dict[str, list[Path]] = {}
    for run in runs():
        experiments.setdefault(run.parent.name, []).append(run)
    if name in experiments:
        return newest(experiments[name])
    numbered = runs_dir() / name
    if os.path.isfile(numbered / "config.yaml"):
        return numbered
    if os.path.isdir(path):
        inside = [run for run in path.glob("*/config.yaml") if run.parent.name.isdigit()]
        if inside:
            return newest(sorted((run.parent for run in inside), key=lambda run: int(run.name)))
    raise UserError(
        f"run: '{one_line(name, 100)}' is neither a run folder nor an experiment in {runs_dir()}."
        f"{did_you_mean(name, experiments)} `litlab list runs` shows all; `litlab fit CONFIG` creates one."
    )


def _newest_trained(numbered: list[Path]) -> Path:
    """Return the newest run with weights, and print which newer one is skipped; the newest of all if none has any."""
    trained = [run for run in numbered if (run / "checkpoints" / "best.ckpt").is_file()]
    if not trained:
        return numbered[-1]
    if trained[-1] != numbered[-1]:
        say(f"run: {numbered[-1]} has no weights yet; using {trained[-1]}.")
    return trained[-1]

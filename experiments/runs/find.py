"""Finding run folders by path or by experiment name."""

from __future__ import annotations

import os
from pathlib import Path

from experiments.messages.errors import UserMistake
from experiments.messages.text import did_you_mean, one_line, say


def runs_dir() -> Path:
    """Where run folders go: LITLAB_RUNS_DIR, else `runs` in the working folder."""
    path = Path(os.environ.get("LITLAB_RUNS_DIR") or "runs")
    try:
        return path.expanduser()
    except RuntimeError:
        raise UserMistake(f"LITLAB_RUNS_DIR: the home folder in {path} is not known. Write the whole path.") from None


def runs() -> list[Path]:
    """All run folders below `runs_dir`, by experiment and number."""
    found = [path.parent for path in runs_dir().glob("*/*/config.yaml") if path.parent.name.isdigit()]
    return sorted(found, key=lambda run: (run.parent.name, int(run.name)))


def find_run(word: str, trained: bool = True) -> Path:
    """The run folder that an argument means: a folder, or an experiment's name for its newest run (with weights)."""
    newest = _newest_trained if trained else (lambda numbered: numbered[-1])
    path = Path(word)
    if os.path.isfile(path / "config.yaml"):
        return path
    experiments: dict[str, list[Path]] = {}
    for run in runs():
        experiments.setdefault(run.parent.name, []).append(run)
    if word in experiments:
        return newest(experiments[word])
    numbered = runs_dir() / word
    if os.path.isfile(numbered / "config.yaml"):
        return numbered
    if os.path.isdir(path):
        inside = [run for run in path.glob("*/config.yaml") if run.parent.name.isdigit()]
        if inside:
            return newest(sorted((run.parent for run in inside), key=lambda run: int(run.name)))
    raise UserMistake(
        f"run: '{one_line(word, 100)}' is neither a run folder nor an experiment in {runs_dir()}."
        f"{did_you_mean(word, experiments)} `litlab list runs` shows all; `litlab fit CONFIG` makes one."
    )


def _newest_trained(numbered: list[Path]) -> Path:
    """The newest run that has weights; passing over newer ones is said. The newest of all if none has any."""
    trained = [run for run in numbered if (run / "checkpoints" / "best.ckpt").is_file()]
    if not trained:
        return numbered[-1]
    if trained[-1] != numbered[-1]:
        say(f"run: {numbered[-1]} has no weights yet; using {trained[-1]}.")
    return trained[-1]

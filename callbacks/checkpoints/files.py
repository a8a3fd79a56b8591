"""Names of the checkpoint files of a run."""

from pathlib import Path

from lightning.pytorch import Trainer

CHECKPOINTS, BEST, LAST = "checkpoints", "best.ckpt", "last.ckpt"  # the folder in a run folder, and its files


def was_saved(trainer: Trainer, name: str) -> bool:
    """Return True unless the last attempt to save this checkpoint failed."""
    failed: dict[Path, str] = getattr(trainer.strategy.checkpoint_io, "failed", {})
    return not any(path.name == name for path in failed)

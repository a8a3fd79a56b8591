"""Names of the checkpoint files of a run."""

CHECKPOINTS, BEST, LAST = "checkpoints", "best.ckpt", "last.ckpt"  # the folder in a run folder, and its files

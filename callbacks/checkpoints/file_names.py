"""Names of the checkpoint files of a run."""

CHECKPOINTS, BEST, LAST = "checkpoints", "best.ckpt", "last.ckpt"  # the folder in a run folder, and its files
END = "end.part"  # the checkpoint of the last step of a run with `max_steps`, until the run ends

"""Error for a training batch of one sample, which BatchNorm cannot normalize."""

from __future__ import annotations

from lightning.fabric.utilities.exceptions import MisconfigurationException

_REASON = "Expected more than 1 value per channel when training"  # torch's message


def one_sample_error(error: ValueError) -> MisconfigurationException | None:
    """Return an error with advice if the given error is that of BatchNorm for one value per channel, else None."""
    if not str(error).startswith(_REASON):
        return None
    return MisconfigurationException(
        "batch_size: BatchNorm cannot train on one sample, which has no variance. Each device needs at least 2 samples "
        "per batch, after the division into accumulation steps. Set a larger --data.batch_size (in your own DataLoader "
        "batch_size, or drop_last=True if its last batch has one sample), or use a model without BatchNorm."
    )

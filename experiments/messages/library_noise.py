"""Filters for advertisements and warnings of libraries that a user cannot act on."""

from __future__ import annotations

import logging
import os
import warnings

# Warnings of libraries about their own code, or about DataLoader options that litlab does not use.
_NOT_FOR_USERS = (
    r".*LeafSpec.*deprecated.*",
    r".*treespec, LeafSpec.*",
    r".*does not have many workers.*",
    r"The number of training batches .* is smaller than the logging interval.*",
    r".*litlogger.*",
    r".*litmodels.*",
    r"Checkpoint directory .* exists and is not empty.*",
    r".*lr_scheduler\.step\(\).*before.*optimizer\.step\(\).*",
    r".*GPU available but not used.*",
    r"Couldn't infer the batch indices fetched from your dataloader: `InMemoryLoader`",
    r"The dirpath has changed from .*",  # for a new run that starts from the checkpoint of another run
    # A default of StochasticWeightAveraging, which config.yaml omits
    r"\s*Unable\s+to\s+serialize\s+instance\s+cpu\s*$",
    r"Please use the new API settings to control TF32 behavior.*",  # torch 2.9 about its own cudnn.flags()
    r"Total length of `list` across ranks is zero.*",  # val_split 0
    r"[\s\S]*JSONARGPARSE_DEPRECATION_WARNINGS",
    r"[\s\S]*will be removed in v5\.0\.0",
)


class _LightningInfoFilter(logging.Filter):
    """Filter that removes messages below WARNING if Lightning's own code logged them."""

    def filter(self, record: logging.LogRecord) -> bool:
        lightning = f"{os.sep}lightning{os.sep}" in record.pathname or "lightning_fabric" in record.pathname
        return not lightning or record.levelno >= logging.WARNING


_FILTER = _LightningInfoFilter()
_DEFAULT_FORMAT = warnings.formatwarning


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Format a UserWarning without its source location; other warnings include it."""
    if issubclass(category, UserWarning):
        return f"warning: {' '.join(str(message).split())}\n"
    return _DEFAULT_FORMAT(message, category, filename, lineno, line)


def quiet_libraries(debug: bool = False) -> None:
    """Install the filters, or remove them if `debug` is True; repeated calls have no further effect."""
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
        "lightning.fabric.utilities.seed",
    ):
        logger = logging.getLogger(name)
        logger.removeFilter(_FILTER)
        if not debug:
            logger.addFilter(_FILTER)
    # Hides messages about process groups.
    logging.getLogger("lightning.fabric").setLevel(logging.INFO if debug else logging.WARNING)
    warnings.formatwarning = _DEFAULT_FORMAT if debug else _one_line
    if not debug:
        for pattern in _NOT_FOR_USERS:
            warnings.filterwarnings("ignore", message=pattern)

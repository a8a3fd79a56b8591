"""Filters for adverts and warnings of libraries that a user cannot act on."""

from __future__ import annotations

import logging
import os
import warnings

# Warnings of the libraries below us about themselves, or about DataLoader settings that litlab does not use.
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
    r"The dirpath has changed from .*",  # a new run from the checkpoint of another: the best is its own
    # A default of StochasticWeightAveraging; the config that is kept leaves it out, so it stays the default.
    r"\s*Unable\s+to\s+serialize\s+instance\s+cpu\s*$",
    r"Please use the new API settings to control TF32 behavior.*",  # torch 2.9 about its own cudnn.flags()
    r"Total length of `list` across ranks is zero.*",  # val_split 0
    r"[\s\S]*JSONARGPARSE_DEPRECATION_WARNINGS",
    r"[\s\S]*will be removed in v5\.0\.0",
)


class _OwnLines(logging.Filter):
    """Passes every warning, and info messages unless Lightning itself logged them."""

    def filter(self, record: logging.LogRecord) -> bool:
        own = f"{os.sep}lightning{os.sep}" not in record.pathname and "lightning_fabric" not in record.pathname
        return own or record.levelno >= logging.WARNING


_FILTER = _OwnLines()
_FORMAT = warnings.formatwarning


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Format a UserWarning without its place in the code; other warnings keep it."""
    if issubclass(category, UserWarning):
        return f"warning: {' '.join(str(message).split())}\n"
    return _FORMAT(message, category, filename, lineno, line)


def quiet_libraries(debug: bool = False) -> None:
    """Install the filters; repeated calls are harmless. `debug` removes them."""
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
        "lightning.fabric.utilities.seed",
    ):
        logger = logging.getLogger(name)
        logger.removeFilter(_FILTER)
        if not debug:
            logger.addFilter(_FILTER)
    # Notices of process groups; warnings stay.
    logging.getLogger("lightning.fabric").setLevel(logging.INFO if debug else logging.WARNING)
    warnings.formatwarning = _FORMAT if debug else _one_line
    if not debug:
        for pattern in _NOT_FOR_USERS:
            warnings.filterwarnings("ignore", message=pattern)

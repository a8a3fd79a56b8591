"""Versions, in a file without imports for the build and the front end."""

VERSION = "0.1.0"

# Increment it if litlab can no longer resume from the checkpoints of older versions, or they from its own.
CHECKPOINT_FORMAT = 1

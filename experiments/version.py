"""The versions, in a file of its own so that the build and the front end read it without importing anything."""

VERSION = "0.1.0"

# Increased if checkpoints change so that an older and this litlab cannot resume from each other's.
CHECKPOINT_FORMAT = 1

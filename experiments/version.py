"""The versions, in a file of its own so that the build and the front end read it without importing anything."""

VERSION = "0.1.0"

# Raised when a checkpoint changes so that an older litlab or this one could not go on from the other's.
CHECKPOINT_FORMAT = 1

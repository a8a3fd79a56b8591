"""Memory that one training step frees stays at hand for the next."""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of mallopt(3)
_BLOCK = 1 << 30  # bytes; tensors up to this size
_OWN_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory() -> bool:
    """Have glibc keep freed blocks instead of giving them back to the system; True where that was possible.

    As it is, blocks above 32 MiB (one layer's outputs in a batch of 512 small images) come from the system as empty
    pages at every step, and are given back: a tenth of a step of LitSpeedNet at batch 512, nothing at batch 256, whose
    tensors are smaller. Settings of the user's stand.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _OWN_SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # another C library has none
    # The first refuses so much in glibc before 2.35; without it the second must stay as it is.
    return bool(mallopt and mallopt(MMAP_THRESHOLD, _BLOCK) and mallopt(TRIM_THRESHOLD, (1 << 31) - 1))

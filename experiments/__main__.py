"""Entry point of the console script `litlab` and of `python -m experiments`."""

from __future__ import annotations

import sys

from experiments.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

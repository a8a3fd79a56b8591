"""Entry point of `python -m litlab`, which also works in a project with its own package `experiments`."""

import sys

from litlab import main

if __name__ == "__main__":
    sys.exit(main())

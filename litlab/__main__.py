"""`python -m litlab`: the command line, also in a project that has a package `experiments` of its own."""

import sys

from litlab import main

if __name__ == "__main__":
    sys.exit(main())

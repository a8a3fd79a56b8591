"""The Python API: `from litlab import fit, load_run`. It imports torch when one of them is called.

If a project has folders with the names of litlab's packages, import litlab before them, see `litlab.packages`.
"""

from litlab.packages import claim_names

claim_names()

from experiments import __version__, fit, load_run  # noqa: E402 - now litlab's package, not the project's
from experiments.cli import main  # noqa: E402

__all__ = ["__version__", "fit", "load_run", "main"]

"""litlab in Python: `from litlab import fit, load_run`; imports torch when one of them is called.

Import it before the packages of a project that has folders named like litlab's, see `litlab.packages`.
"""

from litlab.packages import claim_names

claim_names()

from experiments import __version__, fit, load_run  # noqa: E402 - litlab's own from here on
from experiments.cli import main  # noqa: E402

__all__ = ["__version__", "fit", "load_run", "main"]

"""The Python API: `from litlab import fit, load_run`, or the same names from `experiments`."""

from __future__ import annotations

from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

from experiments.version import VERSION

if TYPE_CHECKING:
    from experiments.api import fit
    from experiments.loaded_run import LoadedRun, load_run
else:

    def fit(*args: Any, **kwargs: Any) -> LoadedRun:
        """Train a config or a model and return the run; `experiments.api.fit` describes the arguments.

        `fit("mlp_digits", overrides={"model.hidden": [64]}, max_epochs=3)` or `fit(model, data, experiment="mine")`.
        """
        _import_packages()
        from experiments import api

        return api.fit(*args, **kwargs)

    def load_run(run: Any) -> LoadedRun:
        """Return a run by its folder, or the newest run of an experiment by the experiment's name."""
        _import_packages()
        from experiments import loaded_run

        return loaded_run.load_run(run)


__path__ = extend_path(__path__, __name__)  # adds a project's folder of this name, see litlab.packages
__version__ = VERSION

__all__ = ["__version__", "fit", "load_run"]


def _import_packages() -> None:
    """Import litlab's packages, and with them torch, on the first call."""
    from experiments.options.import_paths import import_packages

    import_packages()

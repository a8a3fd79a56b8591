"""litlab's front door for notebooks and scripts: `from experiments import fit, load_run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.version import VERSION

if TYPE_CHECKING:
    from experiments.loaded_run import LoadedRun

__version__ = VERSION

__all__ = ["__version__", "fit", "load_run"]


def fit(*args: Any, **kwargs: Any) -> LoadedRun:
    """Train a config or a model and return the run; see `experiments.api.fit` for the arguments.

    `fit("mlp_digits", overrides={"model.hidden": [64]}, max_epochs=3)` or `fit(model, data, experiment="mine")`.
    """
    _import_rooms()
    from experiments import api

    run: LoadedRun = api.fit(*args, **kwargs)
    return run


def load_run(run: Any) -> LoadedRun:
    """A run by its folder, or an experiment's newest by name: config, metrics, results, model with its best weights."""
    _import_rooms()
    from experiments import loaded_run

    found: LoadedRun = loaded_run.load_run(run)
    return found


def _import_rooms() -> None:
    """Torch and Lightning are imported here, when they are needed, not when this package is."""
    from experiments.options.import_paths import import_rooms

    import_rooms()

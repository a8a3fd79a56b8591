"""litlab's front door for notebooks and scripts: `from experiments import fit, load_run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.version import VERSION

if TYPE_CHECKING:
    from experiments.api import LoadedRun, fit, load_run

__version__ = VERSION

__all__ = ["LoadedRun", "__version__", "fit", "load_run"]


def __getattr__(name: str) -> Any:
    """Import torch and Lightning only when `fit` or `load_run` is really used."""
    if name in ("LoadedRun", "fit", "load_run"):
        from experiments import api

        return getattr(api, name)
    raise AttributeError(f"module 'experiments' has no attribute '{name}'")

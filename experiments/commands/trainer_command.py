"""Base class of all commands that LightningCLI builds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from experiments.machine.processes import broadcast_from_first, check_launch
from experiments.options.request import Request
from experiments.options.run_options import RunOptions
from experiments.runs.folder import RunFolder


@dataclass(frozen=True)
class Built:
    """Objects built from a request: run options, seed, resolved config as YAML, model and data."""

    options: RunOptions
    seed: int
    config_text: str
    model: LightningModule
    data: LightningDataModule


class TrainerCommand:
    """A command with a model, data and (unless `needs_trainer` is False) a Trainer.

    The constructor completes the request, for instance with the config of its run. It raises the errors that need no
    model and data.
    """

    needs_trainer = True
    without_mode: Sequence[str] = ()  # metrics that callbacks of the config monitor without an explicit `mode`

    def __init__(self, request: Request) -> None:
        self.request = request
        self.run_folder: RunFolder | None = None  # the folder that the command reads or writes
        self.claimed: RunFolder | None = None  # the same folder if this command created it
        self.trainer: Trainer | None = None
        self.data: LightningDataModule | None = None

    def saved_data_properties(self) -> dict[str, Any] | None:
        """Return the properties of the data that the run's weights were trained on; None for a new run."""
        return None

    def trainer_arguments(self, built: Built, options: dict[str, Any]) -> dict[str, Any]:
        """Check model and data together, and return the Trainer arguments to add to `options`, those of the user."""
        return {}

    def run(self, built: Built, trainer: Trainer | None) -> int:
        """Run the command and return its exit code."""
        raise NotImplementedError

    def discard_empty_run(self, owned: bool = True) -> None:
        """Remove the folder that this command created (and still owns) if nothing was trained in it."""
        if not owned:
            self.claimed = None
        elif self.claimed is not None:
            self.claimed.discard_if_untrained()


def make_command(request: Request) -> TrainerCommand:
    """Check how this process was started, agree with other processes on the run, and return the request's command."""
    check_launch(request.command.name)
    if request.run is not None:
        run = str(request.run.resolve())  # a name means the newest run, and another run may start any time
        request.run = Path(broadcast_from_first("source", lambda: run))
    command: TrainerCommand = request.command.module.COMMAND(request)
    return command

"""usage: litlab resume RUN [options]

Continues from the run's newest checkpoint, in its own folder, as if it had never stopped: the same weights, bit for
bit, on the same machine with the same number of devices. A run killed before its first checkpoint starts again.

Options that change the results (model, data, batch size, split, seed, precision) are rejected. You can change the
logger, add callbacks, change --patience and the number of devices, and
  --trainer.max_epochs N           train more epochs, if no learning rate schedule ends with the run
  --extend_schedule hold|stretch   train more epochs if one does: hold the last learning rate, or stretch the schedule
                                   over N epochs
  --model.optimizer.lr X           change the learning rate, if no schedule sets it
"""

from __future__ import annotations

import shlex
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.commands.fit import Fit
from experiments.commands.resume_changes import ResumedRun
from experiments.messages.errors import UserError
from experiments.messages.formatting import shown
from experiments.runs.checkpoint import CheckpointFile, started_from
from experiments.runs.folder import RunFolder, read_environment, read_results
from experiments.runs.metrics_csv import last_epoch


class Resume(Fit):
    """Continue a run in its own folder."""

    def find_weights(self) -> CheckpointFile:
        """Return the run's newest checkpoint (none if it was killed before the first), and use the run's config."""
        request = self.request
        if request.run is None and request.asks_for_help:
            return CheckpointFile(None)
        if request.run is None or request.option("ckpt_path"):
            raise UserError(
                "resume needs a run and continues from its newest checkpoint: `litlab resume RUN`. To start a new run "
                "from another checkpoint, pass it to `litlab fit CONFIG --ckpt_path FILE`."
            )
        folder = RunFolder(request.run.resolve())
        last = folder.last if folder.last.is_file() else None
        if last is None:
            _check_never_saved(folder)
        request.configs.insert(0, folder.config)
        weights = CheckpointFile(last, folder)
        if last is not None and not request.asks_for_help:
            _check_best(folder)
        self.resumed = ResumedRun(weights, request.option("extend_schedule"), request.names)
        return weights

    def saved_data_properties(self) -> dict[str, Any] | None:
        """Return the properties of the data that the run was trained on so far."""
        return self.weights.data_properties


COMMAND = Resume


def _check_best(folder: RunFolder) -> None:
    """Raise an error if best.ckpt is corrupted: the run would end without its best epoch."""
    try:
        _ = CheckpointFile(folder.best if folder.best.is_file() else None, folder).content
    except MisconfigurationException as error:
        raise UserError(
            f"resume: {error} Or delete the file: the best epoch is then chosen from the epochs that follow."
        ) from error


def _check_never_saved(folder: RunFolder) -> None:
    """Raise an error if a run without last.ckpt has trained: starting again would overwrite its best weights."""
    best = CheckpointFile(folder.best if folder.best.is_file() else None, folder)
    ended = any(result.get("verb") == "fit" for result in read_results(folder))
    try:
        environment: dict[str, Any] = read_environment(folder.environment)
    except (OSError, ValueError):  # ResumedRun.environment reports it
        environment = {}
    began = CheckpointFile(started_from("resume", folder, environment)).epochs_done
    # A run writes last.ckpt at the end of its first epoch.
    if ended or folder.last.exists() or max(best.epoch or 0, last_epoch(folder.metrics)) > began:
        problem = "is not a file" if folder.last.exists() else "is missing"
        remedy = f"`litlab fit {shlex.quote(shown(folder.config))}`"
        if best.path is not None:
            remedy += f", with --ckpt_path {shlex.quote(shown(best.path))} to start from its best epoch"
        raise UserError(
            f"resume: {shown(folder.last)} {problem} although the run was trained, so it cannot continue exactly. "
            f"Restore the file, or start a new run: {remedy}."
        )

"""The weights that `validate`, `test` and `predict` score."""

from __future__ import annotations

import shlex
from pathlib import Path

from experiments.commands.scoring import data_record
from experiments.messages.errors import UserError
from experiments.messages.formatting import shown
from experiments.options.request import Request
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.folder import RunFolder, read_results


def find_weights(request: Request) -> CheckpointFile:
    """Return the weights that the request names, and take the config of their run unless another one is given."""
    command = request.command.name
    given = request.option("ckpt_path")
    if given and request.option("untrained"):
        raise UserError(
            f"{command}: --untrained means random weights, got --ckpt_path {given} too. Remove one of them."
        )
    folder = RunFolder(request.run.resolve()) if request.run is not None else None
    path, folder = _locate(command, given, folder, bool(request.option("untrained")))
    if path is None and not request.option("untrained") and not request.actions:
        raise UserError(
            f"{command}: which weights? `litlab {command} RUN` takes the best weights of a run (`litlab list runs`), "
            "--ckpt_path FILE those of a file, and --untrained random ones on purpose."
        )
    if path is not None and not path.is_file():
        raise UserError(f"{command}: {_missing(command, path, bool(given))}")
    if folder is not None:
        if not folder.config.is_file():
            raise UserError(f"{command}: {shown(folder.config)} does not exist. Pass another one with --config FILE.")
        read_results(folder)  # reports a corrupted file before anything is computed
        data_record(folder)
        request.configs = request.configs or [folder.config]
    elif path is not None and not request.configs and request.option("model") is None:
        raise UserError(
            f"{command}: {shown(path)} has no config.yaml next to it. Pass the config that it was trained with by "
            "--config FILE."
        )
    return CheckpointFile(path, folder)


def _locate(
    command: str, given: str | None, folder: RunFolder | None, untrained: bool
) -> tuple[Path | None, RunFolder | None]:
    """Return the checkpoint's path, None for random weights, and its run folder, if any."""
    if given in ("best", "last"):
        if folder is None:
            raise UserError(f"{command}: --ckpt_path {given} needs a run: `litlab {command} RUN --ckpt_path {given}`.")
        return (folder.best if given == "best" else folder.last), folder
    if given:
        path = Path(given)
        path = (RunFolder(path).last if (path / "config.yaml").is_file() else path).resolve()
        around = RunFolder(path.parent.parent)
        return path, around if folder is None and around.config.is_file() else folder
    return (folder.best if folder is not None and not untrained else None), folder


def _missing(command: str, path: Path, given: bool) -> str:
    if given:
        return f"{shown(path)} does not exist. Pass another --ckpt_path; `litlab list runs` shows the runs."
    run = shlex.quote(shown(path.parent.parent))
    if RunFolder(path.parent.parent).last.is_file():
        return f"{shown(path)} does not exist. Use the run's last weights: `litlab {command} {run} --ckpt_path last`."
    return f"{shown(path)} does not exist: the run has not finished an epoch. Continue it with `litlab resume {run}`."

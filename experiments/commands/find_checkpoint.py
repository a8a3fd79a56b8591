"""The checkpoint that a command loads: `--ckpt_path`, or that of a run."""

from __future__ import annotations

import shlex
from pathlib import Path

from experiments.commands.run_environment import recorded_data
from experiments.messages.errors import UserError
from experiments.messages.formatting import shown
from experiments.options.request import Request
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.folder import RunFolder, read_results


def checkpoint_path(given: str) -> Path:
    """Return the path that `--ckpt_path` names: a file, or last.ckpt of a run folder."""
    path = Path(given)
    return RunFolder(path).last if (path / "config.yaml").is_file() else path


def find_checkpoint(request: Request) -> CheckpointFile:
    """Return the checkpoint to score, and use the config of its run unless the request names another one."""
    command, given, untrained = request.command.name, request.option("ckpt_path"), request.option("untrained")
    if given and untrained:
        raise UserError(
            f"{command}: --untrained means random weights, got --ckpt_path {given} too. Remove one of them."
        )
    folder = RunFolder(request.run.resolve()) if request.run is not None else None
    path, folder = _locate(command, given, folder, bool(untrained))
    if path is None and not untrained and not request.actions:
        raise UserError(
            f"{command}: which weights? Pass a run to use its best weights: `litlab {command} RUN` (`litlab list "
            "runs` shows all). Or set --ckpt_path FILE for those of a file, or --untrained for random ones."
        )
    if path is not None and not path.is_file():
        raise UserError(f"{command}: {_missing(command, path, bool(given))}")
    if folder is not None:
        if not folder.config.is_file():
            raise UserError(f"{command}: {shown(folder.config)} does not exist. Pass another one with --config FILE.")
        read_results(folder)  # both report a corrupted file before anything is computed
        recorded_data(folder)
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
        path = checkpoint_path(given).resolve()
        own = RunFolder(path.parent.parent)
        return path, own if folder is None and own.config.is_file() else folder
    return (folder.best if folder is not None and not untrained else None), folder


def _missing(command: str, path: Path, given: bool) -> str:
    if given:
        return f"{shown(path)} does not exist. Pass another --ckpt_path; `litlab list runs` shows the runs."
    folder = RunFolder(path.parent.parent)
    run = shlex.quote(shown(folder.path))
    if folder.last.is_file():
        return f"{shown(path)} does not exist. Use the run's last weights: `litlab {command} {run} --ckpt_path last`."
    return f"{shown(path)} does not exist: the run has not finished an epoch. Continue it with `litlab resume {run}`."

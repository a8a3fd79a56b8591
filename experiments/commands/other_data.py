"""Data that is not the run's own: recognized by its hash, and scored in a folder of its own."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule

from datamodules import LitDataModule
from experiments.commands.run_environment import changed_data, recorded_data
from experiments.machine.processes import run_first_on_each_node
from experiments.messages.errors import UserError
from experiments.options.config_files import read_config
from experiments.options.request import Request
from experiments.runs.folder import RunFolder, read_results

_OTHER = "other_data"  # subfolder of a run


def results_folder(request: Request, data: LightningDataModule, run: RunFolder | None) -> RunFolder | None:
    """Return the folder for metrics, figures and predictions: the run's, or for other data one inside it.

    Raise an error if the run's test data has changed and the request does not name other data.
    """
    if run is None or (request.command.name == "validate" and isinstance(data, LitDataModule)):
        return run  # `validate` rejects all data that is not the run's own
    known = _tested_hashes(run)
    requested = request.configs != [run.config] or any(name.partition(".")[0] == "data" for name in request.names)
    if not known and not requested:
        return run
    found = _test_hash(data)
    if found in known if known and found else _is_trained_on(data, run):
        return run
    if not requested:
        raise UserError(
            f"{request.command.name}: the test data changed since the run was tested (SHA-256 {known[-1][:12]}…, now "
            f"{str(found)[:12]}…). Restore it, or name it with a --data option, such as --data.data_dir, to score it "
            "as other data."
        )
    return RunFolder(run.path / _OTHER / f"{type(data).__name__}{f'-{found[:8]}' if found else ''}")


def is_other(folder: RunFolder) -> bool:
    """Return True if the folder is for data that is not the run's own."""
    return folder.path.parent.name == _OTHER


def _tested_hashes(run: RunFolder) -> list[str]:
    """Return the hashes of the test data in the results of a run."""
    records: list[dict[str, Any]] = [record.get("sha256") or {} for record in read_results(run)]
    return [str(hashes["test_data"]) for hashes in records if "test_data" in hashes]


def _test_hash(data: LightningDataModule) -> str | None:
    """Return the hash of the test data; None for a datamodule that is not litlab's."""
    if not isinstance(data, LitDataModule):
        return None

    def load() -> None:
        data.prepare_data()
        data.setup("test")

    run_first_on_each_node("test_data", load)
    return data.hashes()["test_data"]


def _is_trained_on(data: LightningDataModule, run: RunFolder) -> bool:
    """Return True if the run was trained on this data; by its class if no hash is known."""
    recorded = recorded_data(run)
    if not isinstance(data, LitDataModule) or not (recorded.get("sha256") or {}).get("train_data"):
        path = str((read_config(run.config).get("data") or {}).get("class_path"))
        return path.rpartition(".")[2] == type(data).__name__
    run_first_on_each_node("data", lambda: data.setup("fit"))
    changed = changed_data(data, recorded)
    return changed is None or changed[0] == "split"

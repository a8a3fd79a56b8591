"""The run that `rerun` repeats: what its folder records, and the comparison with the new run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule

from experiments.commands.run_environment import require_environment
from experiments.machine import performance_choice
from experiments.machine.performance_options import PerformanceOptions
from experiments.messages.errors import UserError
from experiments.messages.formatting import shown
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.compare import Comparison, check_reference, compare
from experiments.runs.environment_diff import compare_environments, difference_lines
from experiments.runs.folder import RunFolder, read_results

_ACCELERATORS = {"CPUAccelerator": "cpu", "CUDAAccelerator": "cuda", "MPSAccelerator": "mps"}


@dataclass(frozen=True)
class ReferenceRun:
    """The run to repeat, the content of its environment.json, and `check` to compare the results afterwards."""

    folder: RunFolder
    environment: Mapping[str, Any]
    check: bool

    @classmethod
    def read(cls, folder: RunFolder, check: bool) -> ReferenceRun:
        """Read the run; raise an error if it cannot be repeated or, with `check`, not be compared."""
        if not folder.config.is_file():
            raise UserError(
                f"rerun: {shown(folder.config)} was not found; it describes how the run was trained. Restore the file, "
                "or start a new run with `litlab fit CONFIG`."
            )
        fit = f"`litlab fit {shown(folder.config)}`"
        remedy = f"Restore the file, or use only the config: {fit}."
        environment = require_environment(folder, "rerun", remedy, "versions")
        if environment.get("objects"):
            raise UserError(
                f"rerun: {shown(folder.path)} was trained in Python with objects that cannot be written to config.yaml "
                f"({', '.join(environment['objects'])}). Run that program again, or use only its config: {fit}."
            )
        if check:
            _check_finished(folder)
        return cls(folder, environment, check)

    @property
    def _chosen(self) -> Mapping[str, Any]:
        return self.environment.get("chosen") or {}

    def choice(
        self,
        model: LightningModule,
        data: LightningDataModule,
        options: Mapping[str, Any],
        performance: PerformanceOptions,
    ) -> performance_choice.PerformanceChoice:
        """Return the run's precision, layout and threads; choose them again only if the run recorded none."""
        return performance_choice.as_trained(self._chosen, model, data, options, performance)

    def devices(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the run's devices as Trainer arguments, if the options are `auto` and this machine has them."""
        name, number = _ACCELERATORS.get(str(self._chosen.get("accelerator"))), self._chosen.get("devices", 1)
        here = {"cpu": number, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
        if name is None or number > here[name]:
            return {}
        arguments: dict[str, Any] = {}
        if options.get("accelerator") in (None, "auto"):
            arguments["accelerator"] = name
        if options.get("devices") in (None, "auto") and (arguments or options.get("accelerator") in (name, "gpu")):
            arguments["devices"] = number
        return arguments

    def report_differences(self, new: RunFolder) -> None:
        """Print differences that are known before training, and store them in environment.json of the new run."""
        differs, _ = compare_environments(self.folder, new)
        _record(new, {"differs": differs})
        print(f"repeats {shown(self.folder.path)}{', with differences:' if differs else ''}")
        for line in difference_lines(differs):
            print(line, flush=True)

    def compare(self, new: RunFolder) -> Comparison:
        """Compare the results of the new run with this one; print and store the comparison."""
        if not new.environment.is_file():
            raise UserError("rerun --check: nothing was trained, so there is nothing to compare. Remove --check.")
        comparison = compare(self.folder, new)
        _record(new, {"differs": comparison.differs, "check": comparison.content()})
        print("\n" + "\n".join(comparison.lines()), flush=True)
        return comparison


def _check_finished(folder: RunFolder) -> None:
    """Raise an error before training if the results cannot be compared after it."""
    fits = [result for result in read_results(folder) if result.get("verb") == "fit"]
    for path in (folder.best, folder.last):
        content = CheckpointFile(path, folder).content if path.is_file() else {}
        if path == folder.last and content and fits and fits[-1].get("steps") != content.get("global_step"):
            fits = []  # the run was resumed after it was finished, and stopped again
    check_reference(folder)
    if not fits:
        raise UserError(
            f"rerun --check: {shown(folder.path)} is not finished (or has no checkpoint), so there are no results to "
            f"compare. Finish it with `litlab resume {shown(folder.path)}`, or remove --check."
        )


def _record(folder: RunFolder, entries: Mapping[str, Any]) -> None:
    """Add entries to `rerun_of` in environment.json."""
    with folder.edit_environment() as content:
        content["rerun_of"] = {**content.get("rerun_of", {}), **entries}

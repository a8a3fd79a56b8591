"""The run that `rerun` repeats: what its folder records, and the comparison afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule

from experiments.machine import performance_choice
from experiments.machine.performance_choice import PerformanceChoice
from experiments.machine.performance_options import PerformanceOptions
from experiments.messages.errors import UserError
from experiments.messages.formatting import shown
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.compare import Comparison, check_reference, compare
from experiments.runs.environment_diff import compare_environments, difference_lines
from experiments.runs.folder import RunFolder, read_environment, read_results, sha256

_ACCELERATORS = {"CPUAccelerator": "cpu", "CUDAAccelerator": "cuda", "MPSAccelerator": "mps"}


@dataclass(frozen=True)
class Repeated:
    """The run to repeat: its folder, its environment.json, and `check` to compare the numbers afterwards."""

    folder: RunFolder
    record: Mapping[str, Any]
    check: bool

    def choice(
        self,
        model: LightningModule,
        data: LightningDataModule,
        options: Mapping[str, Any],
        performance: PerformanceOptions,
    ) -> PerformanceChoice:
        """Return the precision, layout and threads of the run; choose them again only if the run recorded none."""
        threads = self._chosen.get("threads")
        if not self._chosen:
            return performance_choice.choose(model, data, options, performance)
        choice = performance_choice.from_record(self._chosen, options, performance)
        return replace(choice, threads=threads) if performance.threads is None and isinstance(threads, int) else choice

    def devices(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the run's devices as Trainer arguments, if the options are `auto` and this machine has them."""
        name = _ACCELERATORS.get(str(self._chosen.get("accelerator")))
        here = {"cpu": self._chosen.get("devices", 1), "cuda": torch.cuda.device_count(),
                "mps": int(torch.backends.mps.is_available())}  # fmt: skip
        if name is None or self._chosen.get("devices", 1) > here[name]:
            return {}
        taken: dict[str, Any] = {}
        if options.get("accelerator") in (None, "auto"):
            taken["accelerator"] = name
        if options.get("devices") in (None, "auto") and (taken or options.get("accelerator") in (name, "gpu")):
            taken["devices"] = self._chosen["devices"]
        return taken

    @classmethod
    def of(cls, folder: RunFolder, check: bool) -> Repeated:
        """Read what the folder records; raise if the run cannot be repeated, or not be compared."""
        record = _record(folder)
        if record.get("objects"):
            raise UserError(
                f"rerun: {shown(folder.path)} was made in Python with objects that its config.yaml cannot hold "
                f"({', '.join(record['objects'])}). Run that program again, or use only its config: "
                f"`litlab fit {shown(folder.config)}`."
            )
        if check:
            _check_finished(folder)
        return cls(folder, record, check)

    @property
    def _chosen(self) -> Mapping[str, Any]:
        found = self.record.get("chosen")
        return found if isinstance(found, Mapping) else {}

    def say_before(self, new: RunFolder) -> None:
        """Print known differences before training starts."""
        differs, _ = compare_environments(self.folder, new)
        _note(new, {"differs": differs})
        print(f"repeats {shown(self.folder.path)}{', with differences:' if differs else ''}")
        for line in difference_lines(differs):
            print(line, flush=True)

    def compare(self, new: RunFolder) -> Comparison:
        """Compare the repeat with the run, print the result and record it in the folder of the repeat."""
        if not new.environment.is_file():
            raise UserError("rerun --check: nothing was trained, so there is nothing to compare.")
        found = compare(self.folder, new)
        _note(new, {"differs": found.differs, "check": found.content()})
        print("\n" + "\n".join(found.lines()), flush=True)
        return found


@dataclass(frozen=True)
class Origin:
    """Where a new run comes from besides its config: a checkpoint, Python objects, or a run to repeat."""

    start: CheckpointFile | None = None
    objects: tuple[str, ...] = ()  # what was passed from Python and a config cannot hold
    repeated: Repeated | None = None

    def as_record(self) -> dict[str, Any]:
        """Return the entries for environment.json."""
        found: dict[str, Any] = {}
        if self.start is not None and self.start.path is not None:
            path = self.start.path.resolve()
            found["started_from"] = {"checkpoint": str(path), "sha256": sha256(path)}
        if self.objects:
            found["objects"] = list(self.objects)
        if self.repeated is not None:
            started = self.repeated.record.get("started")
            found["rerun_of"] = {"run": str(self.repeated.folder.path), "started": started}
        return found


def _record(folder: RunFolder) -> dict[str, Any]:
    if not folder.config.is_file():
        raise UserError(
            f"rerun: {shown(folder.config)} does not exist; it holds how the run was trained. Put it back, or start "
            "a new run by `litlab fit CONFIG`."
        )
    try:
        found = read_environment(folder.environment)
        found["versions"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"rerun: {shown(folder.environment)} is missing or corrupted; it records the hardware and data. Put "
            f"it back, or use only the config: `litlab fit {shown(folder.config)}`."
        ) from error
    return found


def _check_finished(folder: RunFolder) -> None:
    """Raise before training if the numbers could not be compared after it."""
    fits = [result for result in read_results(folder) if result.get("verb") == "fit"]
    for path in (folder.best, folder.last):
        content = CheckpointFile(path, folder).content if path.is_file() else {}
        if path == folder.last and content and fits and fits[-1].get("steps") != content.get("global_step"):
            fits = []  # it was resumed after it was finished, and stopped again
    check_reference(folder)
    if not fits:
        raise UserError(
            f"rerun --check: {shown(folder.path)} is not finished (or kept no checkpoint), so there are no numbers to "
            f"compare. Finish it with `litlab resume {shown(folder.path)}`, or remove --check."
        )


def _note(folder: RunFolder, facts: Mapping[str, Any]) -> None:
    """Add entries to `rerun_of` in environment.json."""
    with folder.edit_environment() as record:
        record["rerun_of"] = {**record.get("rerun_of", {}), **facts}

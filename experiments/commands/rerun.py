"""The verb `rerun`: the same experiment once more, from what a run's folder says of it, in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import whole_file
from experiments.machine import choice as machine
from experiments.messages.text import shown
from experiments.runs.checkpoint import Weights, started_from
from experiments.runs.compare import Comparison, check_reference, compare
from experiments.runs.environment_diff import circumstances, differs_words
from experiments.runs.folder import RunFolder, read_environment, read_results, sha256

_ACCELERATORS = {"CPUAccelerator": "cpu", "CUDAAccelerator": "cuda", "MPSAccelerator": "mps"}


@dataclass(frozen=True)
class Repeated:
    """The run that is repeated: its folder, its environment.json, and whether the numbers are compared afterwards."""

    folder: RunFolder
    record: Mapping[str, Any]
    check: bool

    def choice(
        self, model: LightningModule, data: LightningDataModule, options: Mapping[str, Any], wishes: machine.Wishes
    ) -> machine.Choice:
        """What was chosen for the run's machine, threads too; chosen anew only if the run never came so far."""
        threads = self._chosen.get("threads")
        if not self._chosen:
            return machine.choose(model, data, options, wishes)
        choice = machine.of_run(self.folder.environment, options, wishes)
        return replace(choice, threads=threads) if wishes.threads is None and isinstance(threads, int) else choice

    def devices(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The run's kind and number of devices as Trainer arguments, where `auto` is asked for and they are here."""
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

    @property
    def _chosen(self) -> Mapping[str, Any]:
        found = self.record.get("chosen")
        return found if isinstance(found, Mapping) else {}

    def say_before(self, new: RunFolder) -> None:
        """What differs already, before any time is spent."""
        differs, _ = circumstances(self.folder, new)
        _note(new, {"differs": differs})
        print(f"repeats {shown(self.folder.path)}{', with differences:' if differs else ''}")
        for line in differs_words(differs):
            print(line, flush=True)

    def compare(self, new: RunFolder) -> Comparison:
        """Compare the repeat with the run, tell, and write it into the repeat's folder."""
        if not new.environment.is_file():
            raise MisconfigurationException("rerun --check: nothing was trained, so there is nothing to compare.")
        found = compare(self.folder, new)
        _note(new, {"differs": found.differs, "check": found.content()})
        print("\n" + "\n".join(found.words()), flush=True)
        return found


@dataclass(frozen=True)
class Origin:
    """Where a new run comes from beside its config."""

    start: Weights | None = None
    objects: tuple[str, ...] = ()  # what was given from Python and no config can say
    repeated: Repeated | None = None

    def facts(self) -> dict[str, Any]:
        """What environment.json says of it."""
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


def find(words: list[str], source: Path | None) -> tuple[list[str], Repeated | None]:
    """Words with the run's config and first checkpoint among them, and the run; what cannot be repeated is refused."""
    check = "--check" in words
    words = [word for word in words if word != "--check"]
    if source is None:
        if any(word in ("--help", "--help-all") or ".help" in word for word in words):
            return words, None
        raise MisconfigurationException("rerun: give the run: `litlab rerun RUN`; `litlab list runs` shows all.")
    folder = RunFolder(source.resolve())
    record = _record(folder)
    if record.get("objects"):
        raise MisconfigurationException(
            f"rerun: {shown(folder.path)} was made in Python with what its config.yaml cannot say "
            f"({', '.join(record['objects'])}). Run that program again, or take the settings alone: "
            f"`litlab fit {shown(folder.config)}`."
        )
    if check:
        _check_finished(folder)
        if any(w.startswith("--trainer.fast_dev_run") and w.partition("=")[2] not in ("false", "0") for w in words):
            raise MisconfigurationException("rerun --check: fast_dev_run keeps nothing to compare. Leave one out.")
    if not any(word.startswith("--ckpt_path") for word in words):
        start = started_from("rerun", folder, record)
        words = [f"--ckpt_path={start}", *words] if start is not None else words
    return [f"--config={folder.config}", *words], Repeated(folder, record, check)


def _record(folder: RunFolder) -> dict[str, Any]:
    if not folder.config.is_file():
        raise MisconfigurationException(
            f"rerun: {shown(folder.config)} is not there, which says how the run was trained. Put it back, or start "
            "a new run by `litlab fit CONFIG`."
        )
    try:
        found = read_environment(folder.environment)
        found["versions"]
    except (OSError, ValueError, KeyError) as error:
        raise MisconfigurationException(
            f"rerun: {shown(folder.environment)} is missing or damaged; it says on what and with which data the run "
            f"was trained. Put it back, or take the settings alone: `litlab fit {shown(folder.config)}`."
        ) from error
    return found


def _check_finished(folder: RunFolder) -> None:
    """Refuse before training what could not be compared after it."""
    fits = [result for result in read_results(folder) if result.get("verb") == "fit"]
    for path in (folder.best, folder.last):
        content = Weights(path, folder).content if path.is_file() else {}
        if path == folder.last and content and fits and fits[-1].get("steps") != content.get("global_step"):
            fits = []  # it was resumed after its end and stopped again
    check_reference(folder)
    if not fits:
        raise MisconfigurationException(
            f"rerun --check: {shown(folder.path)} did not come to its end (or kept no checkpoint), so it has no "
            f"numbers to agree with. Finish it by `litlab resume {shown(folder.path)}`, or leave out --check."
        )


def _note(folder: RunFolder, facts: Mapping[str, Any]) -> None:
    """Add to `rerun_of` in environment.json."""
    record = json.loads(folder.environment.read_text(encoding="utf-8"))
    record["rerun_of"] = {**record.get("rerun_of", {}), **facts}
    with whole_file(folder.environment) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode("utf-8"))

"""A run that is there: its settings, figures and trained model, from Python."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.command_line.lightning_cli import LitlabCLI
from experiments.commands.fit_plan import Plan
from experiments.messages.errors import UserMistake
from experiments.messages.library_noise import quiet_libraries
from experiments.options.config_files import read_config
from experiments.options.import_paths import working_folder_importable
from experiments.options.overrides import as_words
from experiments.options.signatures import parameters
from experiments.runs.checkpoint import Weights
from experiments.runs.compare import Comparison, compare
from experiments.runs.find import find_run
from experiments.runs.folder import RunFolder, read_results
from lit_models import LitTask


class LoadedRun:
    """One run folder: its settings, figures and trained model."""

    def __init__(self, folder: Path) -> None:
        self.folder = RunFolder(Path(folder).resolve())
        quiet_libraries()

    def __repr__(self) -> str:
        return f"LoadedRun('{self.folder.path}')"

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config."""
        return read_config(self.folder.config)

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, hardware, seed, data and split hashes."""
        content: dict[str, Any] = json.loads(self.folder.environment.read_text(encoding="utf-8"))
        return content

    @property
    def results(self) -> list[dict[str, Any]]:
        """Every figure of fit, validate and test so far, oldest first, with checkpoint, epoch and split."""
        return read_results(self.folder)

    @property
    def metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.csv: what was logged at which step."""
        if not self.folder.metrics.is_file():
            return []
        with self.folder.metrics.open(newline="", encoding="utf-8") as file:
            return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]

    @cached_property
    def model(self) -> LightningModule:
        """The model with its best weights, on the CPU, ready to predict."""
        return self.load("best")

    def load(self, which: str = "best") -> LightningModule:
        """The model with the `best` or the `last` weights."""
        if which not in ("best", "last"):
            raise MisconfigurationException(f"load: '{which}' is not known; give 'best' or 'last'.")
        weights = Weights(self.folder.best if which == "best" else self.folder.last, self.folder)
        path = self.config["model"]["class_path"]
        cls = _import(path)
        if not (isinstance(cls, type) and issubclass(cls, LightningModule)):
            raise MisconfigurationException(f"load: {path} in {self.folder.config} is no LightningModule.")
        kept = weights.content.get("hyper_parameters") or {}
        try:
            model = self._build(cls, kept, weights)
        except (TypeError, ValueError, AttributeError) as error:
            raise MisconfigurationException(
                f"checkpoint: the hyper-parameters in {weights.path} do not build {cls.__name__} ({error})."
            ) from error
        weights.check(model)
        model.load_state_dict(weights.content["state_dict"])
        return model.eval()

    def _build(self, cls: type[LightningModule], kept: Mapping[str, Any], weights: Weights) -> LightningModule:
        if issubclass(cls, LitTask):
            accepted = parameters(cls)
            return cls(**{name: value for name, value in kept.items() if name in accepted})
        if kept:
            loaded: LightningModule = cls.load_from_checkpoint(str(weights.path), map_location="cpu", weights_only=True)
            return loaded
        built: LightningModule = self._cli("test").model
        return built

    @cached_property
    def data(self) -> LightningDataModule:
        """The run's datamodule; call `prepare_data()` and `setup(...)` before its loaders."""
        data: LightningDataModule = self._cli("test").datamodule
        return data

    def test(self, **overrides: Any) -> dict[str, float]:
        """Score the best weights on the official test set; the figures also go to results.json."""
        self._cli("test", overrides).run()
        return dict(self.results[-1]["metrics"])

    def resume(self, extend_schedule: str | None = None, **overrides: Any) -> LoadedRun:
        """Go on with a run that was stopped or killed; `**{"trainer.max_epochs": 20}` makes it longer."""
        words = {} if extend_schedule is None else {"extend_schedule": extend_schedule}
        self._cli("resume", {**words, **overrides}).run()
        return LoadedRun(self.path)

    def rerun(self, **overrides: Any) -> LoadedRun:
        """Train the same once more, in a new folder; `run.rerun().compare(run).agrees` says whether it repeats."""
        cli = self._cli("rerun", overrides)
        cli.run()
        return of_plan(cli.plan)

    def compare(self, earlier: LoadedRun | str | Path) -> Comparison:
        """Whether figures and weights are those of an earlier run, and what differs of all they depend on."""
        other = earlier if isinstance(earlier, LoadedRun) else load_run(earlier)
        return compare(other.folder, self.folder)

    def _cli(self, verb: str, overrides: Mapping[str, Any] | None = None) -> LitlabCLI:
        with working_folder_importable():
            return LitlabCLI(verb, as_words(overrides or {}), self.path)


def of_plan(plan: Plan) -> LoadedRun:
    """The run that was just trained."""
    if plan.folder is None:
        raise MisconfigurationException("fit: fast_dev_run keeps nothing, so there is no run to return.")
    return LoadedRun(plan.folder.path)


def load_run(run: str | Path) -> LoadedRun:
    """A run by its folder, or an experiment's newest by name; raises MisconfigurationException when there is none."""
    try:
        return LoadedRun(find_run(str(run)))
    except UserMistake as mistake:
        raise MisconfigurationException(str(mistake)) from None


def _import(path: str) -> Any:
    import importlib

    import lit_models

    module, _, name = path.rpartition(".")
    with working_folder_importable():
        return getattr(importlib.import_module(module) if module else lit_models, name)

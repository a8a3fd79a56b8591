"""A run from Python: its config, metrics, results and trained model."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from experiments.command_line.lightning_cli import LitlabCLI, build
from experiments.commands.fit import Fit
from experiments.commands.fit_plan import Plan
from experiments.commands.score import Score
from experiments.commands.trainer_command import TrainerCommand
from experiments.messages.errors import UserError, as_misconfiguration
from experiments.messages.library_noise import quiet_libraries
from experiments.options.command_table import COMMANDS
from experiments.options.config_files import read_config
from experiments.options.import_paths import working_folder_importable
from experiments.options.request import Request
from experiments.options.signatures import parameters
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.compare import Comparison, compare
from experiments.runs.find import find_run
from experiments.runs.folder import RunFolder, read_json, read_results
from lit_models import LitTask


class LoadedRun:
    """One run folder: its config, metrics, results and trained model.

    >>> from litlab import fit, load_run
    >>> run = fit("linear_line", max_epochs=2, enable_progress_bar=False)  # doctest: +ELLIPSIS
    run ...
    >>> load_run("linear_line").results[-1]["verb"], len(run.metrics) > 0
    ('fit', True)
    >>> sorted(run.model.state_dict())
    ['net.linear.bias', 'net.linear.weight']
    """

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
        with as_misconfiguration():
            return read_config(self.folder.config)

    @property
    def environment(self) -> dict[str, Any]:
        """The content of environment.json: versions, hardware, seed, hashes of data and split."""
        content: dict[str, Any] = read_json(self.folder.environment)
        return content

    @property
    def results(self) -> list[dict[str, Any]]:
        """All results of fit, validate and test, oldest first, with checkpoint, epoch and split."""
        return read_results(self.folder)

    @property
    def metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.csv: the metrics that were logged, by step."""
        if not self.folder.metrics.is_file():
            return []
        with self.folder.metrics.open(newline="", encoding="utf-8") as file:
            return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]

    @cached_property
    def model(self) -> LightningModule:
        """The model with its best weights, on the CPU, ready to predict."""
        return self.load("best")

    @as_misconfiguration()
    def load(self, which: str = "best") -> LightningModule:
        """Return the model with the `best` or the `last` weights."""
        if which not in ("best", "last"):
            raise UserError(f"load: which must be 'best' or 'last', got '{which}'. Pass one of them.")
        weights = CheckpointFile(self.folder.best if which == "best" else self.folder.last, self.folder)
        path = self.config["model"]["class_path"]
        cls = _import(path)
        if not (isinstance(cls, type) and issubclass(cls, LightningModule)):
            raise UserError(
                f"load: {path} in {self.folder.config} is not a LightningModule. Fix class_path in the config."
            )
        try:
            model = self._build(cls, weights)
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"checkpoint: {cls.__name__} rejects the hyperparameters in {weights.path} ({error}). "
                "Use the code that trained the run, or another checkpoint."
            ) from error
        weights.check(model)
        model.load_state_dict(weights.content["state_dict"])
        return model.eval()

    def _build(self, cls: type[LightningModule], weights: CheckpointFile) -> LightningModule:
        """Return a model from the hyperparameters in the checkpoint, or from the config if it has none."""
        saved = weights.hyper_parameters
        model: LightningModule
        if issubclass(cls, LitTask):
            accepted = parameters(cls)
            model = cls(**{name: value for name, value in saved.items() if name in accepted})
        elif saved:
            model = cls.load_from_checkpoint(str(weights.path), map_location="cpu", weights_only=True)
        else:
            model = self._command_line("test").model
        return model

    @cached_property
    @as_misconfiguration()
    def data(self) -> LightningDataModule:
        """The datamodule of the run; call `prepare_data()` and `setup(...)` before its dataloaders."""
        data: LightningDataModule = self._command_line("test").datamodule
        return data

    @as_misconfiguration()
    def test(self, **overrides: Any) -> dict[str, float]:
        """Test the best weights on the test split; the metrics are also stored in results.json.

        If overrides name other data than that of the run, they are stored in `other_data/` of the run folder.
        """
        cli = self._command_line("test", overrides)
        cli.run()
        assert isinstance(cli.command, Score)
        return cli.command.metrics

    @as_misconfiguration()
    def resume(self, extend_schedule: str | None = None, **overrides: Any) -> LoadedRun:
        """Continue a run that was stopped or killed; `**{"trainer.max_epochs": 20}` makes it longer."""
        own = {} if extend_schedule is None else {"extend_schedule": extend_schedule}
        self._command_line("resume", {**own, **overrides}).run()
        return LoadedRun(self.path)

    @as_misconfiguration()
    def rerun(self, **overrides: Any) -> LoadedRun:
        """Train again in a new folder; `run.rerun().compare(run).agrees` is True if all values are equal."""
        cli = self._command_line("rerun", overrides)
        cli.run()
        return trained_run(cli.command)

    def compare(self, earlier: LoadedRun | str | Path) -> Comparison:
        """Compare metrics, weights and everything that they depend on with an earlier run."""
        other = earlier if isinstance(earlier, LoadedRun) else load_run(earlier)
        return compare(other.folder, self.folder)

    def _command_line(self, command: str, overrides: Mapping[str, Any] | None = None) -> LitlabCLI:
        request = Request.from_python(COMMANDS[command], overrides or {}, [])
        request.run = self.path
        return build(request)


def trained_run(trained: TrainerCommand | Plan) -> LoadedRun:
    """Return the run that a command or a plan has just trained."""
    plan = trained.plan if isinstance(trained, Fit) else trained
    assert isinstance(plan, Plan)
    if plan.folder is None:
        raise UserError("fit: fast_dev_run saves no run, so there is none to return. Remove fast_dev_run.")
    return LoadedRun(plan.folder.path)


def load_run(run: str | Path) -> LoadedRun:
    """Return a run by its folder, or the newest run of an experiment; raise MisconfigurationException if not found."""
    with as_misconfiguration():
        return LoadedRun(find_run(str(run)))


def _import(path: str) -> Any:
    import importlib

    import lit_models

    module, _, name = path.rpartition(".")
    with working_folder_importable():
        return getattr(importlib.import_module(module) if module else lit_models, name)

"""litlab from notebooks and scripts: the same runs, in the same folders, as from the command line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, seed_everything
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments import training
from experiments.arguments import read_config
from experiments.catalogue import find_config, find_run
from experiments.checkpoint import Weights
from experiments.checks import check_plain, check_trainer
from experiments.cli import LitlabCLI
from experiments.comparing import Comparison, compare
from experiments.launch import check_launch, launch_options
from experiments.machine import Wishes
from experiments.mistake import UserMistake
from experiments.program import working_folder_importable
from experiments.quiet import quiet_libraries
from experiments.rerunning import Origin
from experiments.run_folder import RunFolder, read_results
from experiments.settings import DEFAULT_SEED, FitSettings, check_seed, read_settings
from experiments.signatures import parameters
from experiments.trainer import LitlabTrainer
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
        return _loaded(cli.plan)

    def compare(self, earlier: LoadedRun | str | Path) -> Comparison:
        """Whether figures and weights are those of an earlier run, and what differs of all they depend on."""
        other = earlier if isinstance(earlier, LoadedRun) else load_run(earlier)
        return compare(other.folder, self.folder)

    def _cli(self, verb: str, overrides: Mapping[str, Any] | None = None) -> LitlabCLI:
        with working_folder_importable():
            return LitlabCLI(verb, _words(overrides or {}), self.path)


def load_run(run: str | Path) -> LoadedRun:
    """A run by its folder, or an experiment's newest by name; raises MisconfigurationException when there is none."""
    try:
        return LoadedRun(find_run(str(run)))
    except UserMistake as mistake:
        raise MisconfigurationException(str(mistake)) from None


def fit(
    config: str | Path | LightningModule,
    data: LightningDataModule | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    experiment: str | None = None,
    monitor: str | None = None,
    mode: str | None = None,
    patience: int | None = None,
    seed: int | None = None,
    channels_last: bool | None = None,
    threads: int | None = None,
    compile: bool = False,
    steps_per_call: int = 1,
    **trainer: Any,
) -> LoadedRun:
    """Train and return the run.

    `fit("mlp_digits", overrides={"model.hidden": [64]}, max_epochs=3)` runs a config as `litlab fit` does;
    `fit(model, data, experiment="mine", max_epochs=3)` trains objects that you made. Further keywords go to the
    Trainer; `channels_last` to `steps_per_call` are the options of that name. Raises MisconfigurationException for a
    mistake, TrainingFailed for a loss that is not finite.
    """
    quiet_libraries()
    if seed is not None:
        check_seed(seed)
    wishes = Wishes(channels_last, threads, compile, steps_per_call)
    if isinstance(config, LightningModule):
        if data is None:
            raise MisconfigurationException("fit: a model needs data: fit(model, data).")
        if overrides:
            raise MisconfigurationException("fit: overrides change a config; set what you want on the model and data.")
        options = _Options(experiment or type(config).__name__, monitor, mode, patience, wishes)
        settings = read_settings(options, config, training.prepare_data(data))
        return _fit_objects(config, data, settings, DEFAULT_SEED if seed is None else seed, trainer)
    try:
        path = find_config(str(config))
    except UserMistake as mistake:
        raise MisconfigurationException(str(mistake)) from None
    own = {"experiment": experiment, "monitor": monitor, "mode": mode, "patience": patience, "seed_everything": seed}
    own |= {name: value for name, value in asdict(wishes).items() if value != getattr(Wishes, name)}
    words = _words({name: value for name, value in own.items() if value is not None})
    objects = {name: value for name, value in trainer.items() if not _is_plain(value)}
    plain = {f"trainer.{name}": value for name, value in trainer.items() if name not in objects}
    words += _words(plain) + _words(overrides or {})
    with working_folder_importable():
        cli = LitlabCLI("fit", [f"--config={path}", *words], objects=objects)
        cli.run()
    return _loaded(cli.plan)


class _Options:
    """The run's options in the form in which a parsed config has them."""

    min_delta = 0.0
    test_after_fit = False
    not_finite = "stop"
    save_every_steps = save_every_minutes = None

    def __init__(
        self, experiment: str, monitor: str | None, mode: str | None, patience: int | None, wishes: Wishes
    ) -> None:
        self.experiment, self.monitor, self.mode, self.patience = experiment, monitor, mode, patience
        self.channels_last, self.threads = wishes.channels_last, wishes.threads
        self.compile, self.steps_per_call = wishes.compile, wishes.steps_per_call


def _fit_objects(
    model: LightningModule, data: LightningDataModule, settings: FitSettings, seed: int, trainer: dict[str, Any]
) -> LoadedRun:
    """Train a model that exists already; its config.yaml is written from the hyper-parameters it keeps."""
    seed_everything(seed, workers=True, verbose=False)
    plain = {name: value for name, value in trainer.items() if _is_plain(value)}
    check_launch("fit")
    check_trainer(trainer)
    trainer |= launch_options(trainer)
    check_plain(model)
    check_plain(data)
    document = {
        "seed_everything": seed,
        "experiment": settings.experiment,
        "monitor": settings.monitor,
        "mode": settings.mode,
        "patience": settings.patience,
        **asdict(settings.machine),
        "model": _section(model),
        "data": _section(data),
        "trainer": plain,
    }
    objects = ("model", "data", *(f"trainer.{name}" for name in trainer if name not in plain))
    text = yaml.safe_dump(document, sort_keys=False)
    plan = training.prepare(settings, model, data, text, seed, trainer, origin=Origin(objects=objects))
    training.train(LitlabTrainer(**{**trainer, **plan.trainer}), model, data, plan, None)
    return _loaded(plan)


def _section(part: LightningModule | LightningDataModule) -> dict[str, Any]:
    from experiments.facts import FACTS

    cls = type(part)
    settings = {k: v for k, v in dict(part.hparams).items() if k not in FACTS and not k.startswith("_")}
    plain = json.loads(json.dumps(settings, default=str))  # tuples become lists, as YAML has them
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": plain}


def _loaded(plan: training.Plan) -> LoadedRun:
    if plan.folder is None:
        raise MisconfigurationException("fit: fast_dev_run keeps nothing, so there is no run to return.")
    return LoadedRun(plan.folder.path)


def _words(settings: Mapping[str, Any]) -> list[str]:
    """{'model.hidden': [64]} as command-line words; a value is written as JSON, which YAML reads alike."""
    return [f"--{name}={_written(name, value)}" for name, value in settings.items()]


def _written(name: str, value: Any) -> str:
    if isinstance(value, (str, Path)):
        return str(value)
    try:
        text = json.dumps(value, default=_item, ensure_ascii=False)
        # YAML knows neither JSON's pairs of escapes for emoji nor these characters without an escape.
        return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text)
    except (TypeError, ValueError) as error:
        raise MisconfigurationException(
            f"fit: {name} is no plain data ({error}); give numbers, text, lists and mappings of them."
        ) from error


def _item(value: Any) -> Any:
    """A path within a list as text, a number of NumPy's or torch's as Python's."""
    if isinstance(value, Path):
        return str(value)
    if getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"a {type(value).__name__}")


def _is_plain(value: Any) -> bool:
    """Whether a value can be written as YAML."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _import(path: str) -> Any:
    import importlib

    import lit_models

    module, _, name = path.rpartition(".")
    with working_folder_importable():
        return getattr(importlib.import_module(module) if module else lit_models, name)

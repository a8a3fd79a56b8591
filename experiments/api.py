"""litlab from notebooks and scripts: the same runs, in the same folders, as from the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, seed_everything
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.command_line.lightning_cli import LitlabCLI
from experiments.command_line.trainer import LitlabTrainer
from experiments.commands import fit_plan
from experiments.commands.fit import train
from experiments.commands.rerun import Origin
from experiments.loaded_run import LoadedRun, of_plan
from experiments.machine.choice import Wishes
from experiments.machine.processes import check_launch, launch_options, leave_group
from experiments.messages.errors import UserMistake
from experiments.messages.library_noise import quiet_libraries
from experiments.options.import_paths import working_folder_importable
from experiments.options.names import find_config
from experiments.options.overrides import as_words
from experiments.options.run_options import DEFAULT_SEED, FitSettings, check_seed, read_settings
from experiments.options.trainer_checks import check_plain, check_trainer


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
        settings = read_settings(options, config, fit_plan.prepare_data(data))
        return _fit_objects(config, data, settings, DEFAULT_SEED if seed is None else seed, trainer)
    try:
        path = find_config(str(config))
    except UserMistake as mistake:
        raise MisconfigurationException(str(mistake)) from None
    own = {"experiment": experiment, "monitor": monitor, "mode": mode, "patience": patience, "seed_everything": seed}
    own |= {name: value for name, value in asdict(wishes).items() if value != getattr(Wishes, name)}
    words = as_words({name: value for name, value in own.items() if value is not None})
    objects = {name: value for name, value in trainer.items() if not _is_plain(value)}
    plain = {f"trainer.{name}": value for name, value in trainer.items() if name not in objects}
    words += as_words(plain) + as_words(overrides or {})
    with working_folder_importable():
        cli = LitlabCLI("fit", [f"--config={path}", *words], objects=objects)
        cli.run()
    return of_plan(cli.plan)


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
    plan = fit_plan.prepare(settings, model, data, text, seed, trainer, origin=Origin(objects=objects))
    loop = LitlabTrainer(**{**trainer, **plan.trainer})
    train(loop, model, data, plan, None)
    leave_group(loop)
    return of_plan(plan)


def _section(part: LightningModule | LightningDataModule) -> dict[str, Any]:
    from experiments.options.fact_links import FACTS

    cls = type(part)
    settings = {k: v for k, v in dict(part.hparams).items() if k not in FACTS and not k.startswith("_")}
    plain = json.loads(json.dumps(settings, default=str))  # tuples become lists, as YAML has them
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": plain}


def _is_plain(value: Any) -> bool:
    """Whether a value can be written as YAML."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True

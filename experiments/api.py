"""`fit` for notebooks and scripts, which creates the same runs in the same folders as the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, seed_everything

from experiments.command_line.lightning_cli import build
from experiments.command_line.trainer import LitlabTrainer
from experiments.commands.default_callbacks import users_callbacks
from experiments.commands.fit_plan import Origin, prepare, prepare_data
from experiments.commands.fit_training import train
from experiments.commands.monitored_metric import check_callbacks, with_monitor
from experiments.commands.trainer_command import Built
from experiments.loaded_run import LoadedRun, trained_run
from experiments.machine.launchers import launch_options
from experiments.machine.processes import check_launch, leave_group
from experiments.messages.errors import UserError, as_misconfiguration
from experiments.messages.library_noise import quiet_libraries
from experiments.options.catalog import find_config
from experiments.options.command_table import COMMANDS
from experiments.options.config_files import dump_yaml
from experiments.options.data_properties import DATA_PROPERTIES
from experiments.options.request import Request, python_number
from experiments.options.run_options import DEFAULT_SEED, RunOptions, check_seed
from experiments.options.trainer_checks import check_plain, check_trainer
from lit_models.parts.specs import public_path


@as_misconfiguration()
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
    """Train a config or a model and return the run.

    `fit("mlp_digits", overrides={"model.hidden": [64]}, max_epochs=3)` trains a config like `litlab fit`.
    `fit(model, data, experiment="mine", max_epochs=3)` trains your own objects. Further keywords are arguments of the
    Trainer; `channels_last` to `steps_per_call` are the options of the same names.

    Raise MisconfigurationException for a user error, and TrainingFailed if the loss is not finite, the run folder is
    deleted or another process fails.
    """
    quiet_libraries()
    trainer = {name: python_number(value) for name, value in trainer.items()}
    seed = python_number(seed)
    if seed is not None:
        check_seed(seed)
    own: dict[str, Any] = {
        "experiment": experiment,
        "monitor": monitor,
        "mode": mode,
        "patience": patience,
        "channels_last": channels_last,
        "threads": threads,
        "compile": compile,
        "steps_per_call": steps_per_call,
    }
    own = {name: python_number(value) for name, value in own.items()}
    if isinstance(config, LightningModule):
        if data is None:
            raise UserError("fit: a model needs data, got none. Pass it: fit(model, data).")
        if overrides:
            raise UserError("fit: overrides change a config, got a model. Set the values on the model and the data.")
        options = RunOptions(**{**own, "experiment": experiment or type(config).__name__})
        return _fit_objects(config, data, options, DEFAULT_SEED if seed is None else seed, trainer)
    if data is not None:
        raise UserError("fit: a config names its data, got data too. Remove the data, or pass a model with it.")
    # False and 1 are the defaults of these keywords and keep the value of the config.
    unset = {"compile": False, "steps_per_call": 1}
    given = {name: value for name, value in own.items() if value is not None and value != unset.get(name)}
    if seed is not None:
        given["seed_everything"] = seed
    objects = {name: value for name, value in trainer.items() if not _is_plain(value)}
    plain = {f"trainer.{name}": value for name, value in trainer.items() if name not in objects}
    values = {**given, **plain, **(overrides or {})}
    cli = build(Request.from_python(COMMANDS["fit"], values, [find_config(str(config))], objects))
    cli.run()
    return trained_run(cli.command)


def _fit_objects(
    model: LightningModule, data: LightningDataModule, options: RunOptions, seed: int, trainer: dict[str, Any]
) -> LoadedRun:
    """Train a model object; config.yaml is written from the saved hyperparameters of model and data."""
    options = with_monitor(options, model, prepare_data(data))
    check_callbacks(users_callbacks(trainer), options, model)
    seed_everything(seed, workers=True, verbose=False)
    plain = {name: value for name, value in trainer.items() if _is_plain(value)}
    check_launch("fit")
    check_trainer(trainer)
    trainer |= launch_options(trainer)
    check_plain(model)
    check_plain(data)
    document = {"seed_everything": seed, **asdict(options), "model": _section(model), "data": _section(data)}
    text = dump_yaml({**document, "trainer": plain})
    objects = ("model", "data", *(f"trainer.{name}" for name in trainer if name not in plain))
    plan = prepare(Built(options, seed, text, model, data), trainer, origin=Origin(objects=objects))
    loop = LitlabTrainer(**{**trainer, **plan.trainer})
    train(loop, plan)
    leave_group(loop)
    return trained_run(plan)


def _section(module: LightningModule | LightningDataModule) -> dict[str, Any]:
    """Return the class and the arguments of a model or datamodule as config.yaml stores them."""
    arguments = {k: v for k, v in dict(module.hparams).items() if k not in DATA_PROPERTIES and not k.startswith("_")}
    plain = json.loads(json.dumps(arguments, default=str))  # tuples become lists, as in YAML
    return {"class_path": public_path(type(module)), "init_args": plain}


def _is_plain(value: Any) -> bool:
    """Return True if a value can be written as YAML."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True

"""litlab from notebooks and scripts: the same runs, in the same folders, as from the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, seed_everything

from experiments.command_line.lightning_cli import build
from experiments.command_line.trainer import LitlabTrainer
from experiments.commands.fit_plan import Origin, prepare, prepare_data
from experiments.commands.fit_training import train
from experiments.commands.monitor import with_monitor
from experiments.commands.trainer_command import Built
from experiments.loaded_run import LoadedRun, of_command, of_plan
from experiments.machine.launchers import launch_options
from experiments.machine.processes import check_launch, leave_group
from experiments.messages.errors import UserError, as_misconfiguration
from experiments.messages.library_noise import quiet_libraries
from experiments.options.command_table import COMMANDS
from experiments.options.fact_links import FACTS
from experiments.options.names import find_config
from experiments.options.request import Request
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
    """Train and return the run.

    `fit("mlp_digits", overrides={"model.hidden": [64]}, max_epochs=3)` runs a config as `litlab fit` does;
    `fit(model, data, experiment="mine", max_epochs=3)` trains objects that you made. Further keywords go to the
    Trainer; `channels_last` to `steps_per_call` are the options of that name. Raises MisconfigurationException for a
    user error and TrainingFailed for a loss that is not finite.
    """
    quiet_libraries()
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
    if isinstance(config, LightningModule):
        if data is None:
            raise UserError("fit: a model needs data: fit(model, data).")
        if overrides:
            raise UserError("fit: overrides change a config; set what you want on the model and data.")
        options = RunOptions(**{**own, "experiment": experiment or type(config).__name__})
        return _fit_objects(config, data, options, DEFAULT_SEED if seed is None else seed, trainer)
    if data is not None:
        raise UserError("fit: a config names its data, got data too. Pass a model with it, or remove it.")
    # False and 1, the defaults of these keywords, leave the choice to the config.
    unset = {"compile": False, "steps_per_call": 1}
    given = {name: value for name, value in own.items() if value is not None and value != unset.get(name)}
    if seed is not None:
        given["seed_everything"] = seed
    objects = {name: value for name, value in trainer.items() if not _is_plain(value)}
    plain = {f"trainer.{name}": value for name, value in trainer.items() if name not in objects}
    values = {**given, **plain, **(overrides or {})}
    cli = build(Request.from_python(COMMANDS["fit"], values, [find_config(str(config))], objects))
    cli.run()
    return of_command(cli.command)


def _fit_objects(
    model: LightningModule, data: LightningDataModule, options: RunOptions, seed: int, trainer: dict[str, Any]
) -> LoadedRun:
    """Train a model that exists already; its config.yaml is written from its saved hyperparameters."""
    options = with_monitor(options, model, prepare_data(data))
    seed_everything(seed, workers=True, verbose=False)
    plain = {name: value for name, value in trainer.items() if _is_plain(value)}
    check_launch("fit")
    check_trainer(trainer)
    trainer |= launch_options(trainer)
    check_plain(model)
    check_plain(data)
    document = {"seed_everything": seed, **asdict(options)}
    document |= {"model": _section(model), "data": _section(data), "trainer": plain}
    objects = ("model", "data", *(f"trainer.{name}" for name in trainer if name not in plain))
    text = yaml.safe_dump(document, sort_keys=False)
    plan = prepare(Built(options, seed, text, model, data), trainer, origin=Origin(objects=objects))
    loop = LitlabTrainer(**{**trainer, **plan.trainer})
    train(loop, plan)
    leave_group(loop)
    return of_plan(plan)


def _section(part: LightningModule | LightningDataModule) -> dict[str, Any]:
    arguments = {k: v for k, v in dict(part.hparams).items() if k not in FACTS and not k.startswith("_")}
    plain = json.loads(json.dumps(arguments, default=str))  # tuples become lists, as YAML has them
    return {"class_path": public_path(type(part)), "init_args": plain}


def _is_plain(value: Any) -> bool:
    """Return True if a value can be written as YAML."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True

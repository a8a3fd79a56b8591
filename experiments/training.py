"""The verb `fit`: check data and model together, claim the run folder, train, and say what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from callbacks import ExactState, Stopped, StopSignals, TrainingFailed
from experiments import environment, machine
from experiments.catalogue import runs_dir
from experiments.checkpoint import Weights
from experiments.checks import check_interval
from experiments.defaults import AnothersState, fit_callbacks, fit_plugins, loggers, users_callbacks
from experiments.evaluation import score
from experiments.kept_folder import KeptFolder
from experiments.launch import check_program, hand_on, one_first
from experiments.machine_facts import processes
from experiments.metrics_csv import cut_back
from experiments.rerunning import Origin, started_from
from experiments.resuming import Changes, Resumed
from experiments.run_folder import RunFolder
from experiments.run_modes import several_steps
from experiments.scored import ScoredSamples
from experiments.settings import FitSettings
from experiments.telling import say_end, say_next, say_start
from experiments.words import shown

_DEFAULT_EPOCHS = 10


@dataclass
class Plan:
    """What `prepare` decided: the settings, the folder (none for a `fast_dev_run`) and arguments for the Trainer."""

    settings: FitSettings
    folder: RunFolder | None
    trainer: dict[str, Any]
    scored: ScoredSamples
    choice: machine.Choice
    resumed: Resumed | None = None
    origin: Origin = field(default_factory=Origin)
    start: Path | None = None  # a checkpoint to begin from
    started: float = field(default_factory=time.monotonic)


def prepare_data(data: LightningDataModule) -> bool:
    """Load and split the training data of litlab's own datamodules; whether there is a validation part."""

    def load() -> None:
        data.prepare_data()
        data.setup("fit")

    if hasattr(data, "hashes"):
        one_first("data", load)
    return bool(getattr(data, "has_validation", True))


def prepare(
    settings: FitSettings,
    model: LightningModule,
    data: LightningDataModule,
    config_text: str,
    seed: int,
    options: dict[str, Any],
    resumed: Resumed | None = None,
    origin: Origin = Origin(),  # noqa: B008 - it is never changed
) -> Plan:
    """Choose for the machine, claim the run folder, choose the Trainer's arguments; `options` are the user's.

    A run that goes on keeps its folder and what was chosen for its machine; one that is repeated lends the latter.
    """
    several_steps(settings.machine.steps_per_call, model, data, options)
    check_interval(options, data)
    extra: dict[str, Any] = {}
    if origin.repeated is not None:
        choice = origin.repeated.choice(model, data, options, settings.machine)
        extra = origin.repeated.devices(options)
    elif resumed is None:
        choice = machine.choose(model, data, options, settings.machine)
    else:
        config_text = resumed.check(config_text, model, data)
        resumed.prepare_model(model)
        choice = machine.of_run(resumed.folder.environment, options, settings.machine)
    machine.apply(choice, model)
    if choice.precision is not None:
        extra["precision"] = choice.precision
    if options.get("max_epochs") is None and options.get("max_steps", -1) == -1 and options.get("max_time") is None:
        extra["max_epochs"] = _DEFAULT_EPOCHS
    scored = ScoredSamples()
    own = fit_callbacks(settings, options, config_text)
    first = [callback for callback in own if isinstance(callback, ExactState)]  # before anything that draws
    callbacks = [*first, *users_callbacks(options), *(callback for callback in own if callback not in first), scored]
    extra["plugins"] = fit_plugins(options.get("plugins"))
    begin = _beginning(resumed, origin)
    begin.check_trainable(model)
    rate = begin.check_start(model)
    begin.check_length({**options, **extra}.get("max_epochs"))
    if begin.path is not None:
        callbacks.append(AnothersState())
    if rate is not None:
        callbacks.append(Changes(rate))
    check_program(processes(options), options.get("strategy"))
    if options.get("fast_dev_run"):
        return Plan(settings, None, {**extra, "callbacks": callbacks, "logger": False}, scored, choice)
    if resumed is None:
        folder = _claim(
            settings.experiment, config_text, lambda: {**environment.describe(seed, data), **origin.facts()}
        )
    else:
        folder = resumed.folder
        callbacks += resumed.callbacks(config_text)
    callbacks.append(KeptFolder(folder))
    return Plan(
        settings,
        folder,
        {
            **extra,
            "callbacks": callbacks,
            "logger": loggers(folder, options.get("logger"), None if resumed is None else resumed.step),
            "default_root_dir": str(folder.path),
        },
        scored,
        choice,
        resumed,
        origin,
        begin.path,
    )


def _beginning(resumed: Resumed | None, origin: Origin) -> Weights:
    """The checkpoint of another run that this one begins from, also where it was killed before one of its own."""
    if resumed is None:
        return Weights(None) if origin.start is None else origin.start
    if resumed.weights.path is not None:
        return Weights(None)
    return Weights(started_from("resume", resumed.folder, resumed.record()))


def _claim(experiment: str, config_text: str, facts: Callable[[], dict[str, Any]]) -> RunFolder:
    """One process claims the folder, the others are handed it."""
    own: list[RunFolder] = []

    def claim() -> str:
        files = {"config.yaml": config_text, "environment.json": json.dumps(facts(), indent=2) + "\n"}
        own.append(RunFolder.claim(runs_dir(), experiment, files))
        return str(own[0].path)

    handed = hand_on("run_folder", claim)
    return own[0] if own else RunFolder(Path(handed))


def train(
    trainer: Trainer, model: LightningModule, data: LightningDataModule, plan: Plan, weights: Weights | None
) -> None:
    """Fit, then write down and print what came of it; with `test_after_fit` test the best weights too."""
    held = plan.folder.held() if plan.folder is not None and trainer.is_global_zero else nullcontext()
    with machine.settings(plan.choice, trainer.num_devices), held:
        _train(trainer, model, data, plan, weights)


def _train(
    trainer: Trainer, model: LightningModule, data: LightningDataModule, plan: Plan, weights: Weights | None
) -> None:
    if plan.resumed is not None:
        if trainer.is_global_zero:
            plan.resumed.check_newest()
        if plan.resumed.finished:
            _go_on_after_the_end(trainer, model, data, plan, plan.resumed)
            return
    if trainer.is_global_zero:
        if plan.resumed is not None:
            cut_back(plan.resumed.folder.metrics, plan.resumed.step)
            for left in plan.resumed.folder.last.parent.glob("*.part"):  # of a save that was killed
                left.unlink(missing_ok=True)
        say_start(trainer, data, plan)
    start = weights.path if weights is not None and weights.path is not None else plan.start
    if start is not None:
        trainer.fit(model, datamodule=data, ckpt_path=start, weights_only=True)
    else:
        trainer.fit(model, datamodule=data)
    if plan.folder is None:
        if trainer.is_global_zero:
            print("fast_dev_run: every stage ran; nothing was written.")
        return
    if trainer.is_global_zero and plan.folder.discard_if_untrained():
        refused = getattr(trainer.strategy.checkpoint_io, "failed", {})
        if refused:
            raise TrainingFailed(
                f"Trained, but nothing could be written to {shown(plan.folder.path)} ({next(iter(refused.values()))}), "
                "so the weights are lost. Mend that, and start again."
            )
        if trainer.global_step and (weights is None or weights.path is None):
            print("Trained, but nothing was kept: loggers and checkpoints are both switched off.")
        else:
            print("Nothing to train: no step was made (max_epochs, max_steps, limit_train_batches, or where it began).")
        return
    if trainer.is_global_zero:
        say_end(trainer, data, plan, plan.folder)
    signals = next((c for c in plan.trainer["callbacks"] if isinstance(c, StopSignals)), None)
    if signals is not None and signals.asked is not None:  # it came when the last step was done
        raise Stopped(signals.asked, trainer.global_step, max(trainer.current_epoch - 1, 0), plan.folder.last.is_file())
    tested = plan.settings.test_after_fit and plan.folder.best.is_file()
    if tested:
        _test(trainer, model, data, plan, plan.folder)
    if trainer.is_global_zero:
        say_next(plan.folder, tested)


def _go_on_after_the_end(
    trainer: Trainer, model: LightningModule, data: LightningDataModule, plan: Plan, resumed: Resumed
) -> None:
    """The test, where it is asked for and a kill came before it."""
    owed = plan.settings.test_after_fit and resumed.folder.best.is_file() and not resumed.tested
    if trainer.is_global_zero:
        todo = "Now its test" if owed else "Nothing to do"
        print(
            f"{shown(resumed.folder.path)} has come to its end: {resumed.words()}. {todo}; --trainer.max_epochs N "
            "trains longer."
        )
    if owed:
        _test(trainer, model, data, plan, resumed.folder)


def _test(trainer: Trainer, model: LightningModule, data: LightningDataModule, plan: Plan, folder: RunFolder) -> None:
    # Not compiled, as `litlab test` will do it.
    with torch.compiler.set_stance("force_eager") if plan.settings.machine.compile else nullcontext():
        score("test", trainer, model, data, Weights(folder.best, folder), plan.scored)

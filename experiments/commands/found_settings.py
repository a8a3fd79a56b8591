"""Settings that LearningRateFinder and BatchSizeFinder find: reported, and stored in config.yaml and checkpoints."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import ExactState, NoStepHooks, RunSettings
from experiments.messages.formatting import say
from experiments.options.config_diff import as_typed, differences
from experiments.options.config_files import dump_yaml
from experiments.runs.folder import RunFolder, write_text
from lit_models import LitTask
from lit_models.parts.learning_rate import check_rate, momentum_remark, rate_remark
from lit_models.parts.several_steps import SEARCHES

say_once = rank_zero_only(say)


class FoundSettings(NoStepHooks, Callback):
    """Callback that writes hyperparameters changed by a search to `config_text`; it comes after the search."""

    def __init__(self, config_text: str) -> None:
        self._config = yaml.safe_load(config_text)
        self._before: dict[str, dict[str, Any]] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._before = _hyperparameters(trainer, pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        new = deepcopy(self._config)
        for section, values in _hyperparameters(trainer, pl_module).items():
            arguments = new[section].setdefault("init_args", {})
            arguments |= {name: value for name, value in values.items() if value != self._before[section].get(name)}
        changes = differences(self._config, new)
        names = " and ".join(type(c).__name__ for c in trainer.callbacks if isinstance(c, SEARCHES))  # type: ignore[attr-defined]
        for name, (was, now) in changes.items():
            say_once(f"{names}: {as_typed(name)} was {was} and is now {now}; config.yaml contains the new value.")
        if not changes:
            say_once(
                f"{names} changed no hyperparameter. If it should, call self.save_hyperparameters() in your own class."
            )
        text = dump_yaml(new)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, (ExactState, RunSettings)):
                callback.config = text
        if changes and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            write_text(RunFolder(Path(trainer.default_root_dir)).config, text)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the searches: `test_after_fit` must not search again."""
        trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, SEARCHES)]  # type: ignore[attr-defined]


def _hyperparameters(trainer: Trainer, module: LightningModule) -> dict[str, dict[str, Any]]:
    data = trainer.datamodule  # type: ignore[attr-defined]
    return {"model": deepcopy(dict(module.hparams)), "data": deepcopy(dict(data.hparams))}


def with_found_settings(callbacks: list[Callback], config_text: str, resumed: bool, started: bool) -> list[Callback]:
    """Return the callbacks with `FoundSettings` after the searches, if there are any.

    A resumed run has been searched already. A run that starts from a checkpoint cannot be searched, because it takes
    over the optimizer.
    """
    searches = [callback for callback in callbacks if isinstance(callback, SEARCHES)]
    if not searches or resumed:
        return [callback for callback in callbacks if callback not in searches]
    if started:
        raise MisconfigurationException(
            f"{type(searches[0]).__name__} cannot search in a run that starts from a checkpoint, which contains the "
            "learning rate. Remove the callback or --ckpt_path."
        )
    after = max(callbacks.index(callback) for callback in searches) + 1
    return [*callbacks[:after], FoundSettings(config_text), *callbacks[after:]]


def check_rates(model: LightningModule, callbacks: list[Callback]) -> None:
    """Raise an error if the schedule overrides the learning rate; report it if the schedule overrides the momentum."""
    if isinstance(model, LitTask):
        searched = any(isinstance(callback, LearningRateFinder) for callback in callbacks)
        check_rate(model.optimizer_spec, model.scheduler_spec, searched)
        for remark in (rate_remark, momentum_remark):
            if sentence := remark(model.optimizer_spec, model.scheduler_spec):
                say_once(sentence)

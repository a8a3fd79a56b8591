"""The run that `resume` continues: which options may change, and how changes are applied and recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from callbacks import NoStepHooks
from callbacks.changes_training import changing_callbacks, how_to_declare
from experiments.commands.run_environment import changed_data, require_environment, timestamp
from experiments.messages.errors import UserError
from experiments.messages.formatting import shown
from experiments.options.config_diff import as_typed, differences, flat, stated
from experiments.options.config_files import dump_yaml, load_yaml, read_config
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.environment import git_state, sources, versions
from experiments.runs.folder import RunFolder, read_results, write_text
from lit_models import depends_on_run_length, rebuild_schedule

Extension = Literal["hold", "stretch"]

# Options that may change on resume: they do not change the weights, or only when training ends.
_FREE = (
    "trainer.logger", "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps",
    "trainer.profiler", "trainer.max_time", "trainer.min_", "trainer.num_sanity_val_steps",
    "trainer.limit_test_batches", "trainer.limit_predict_batches", "trainer.detect_anomaly", "patience", "min_delta",
    "test_after_fit", "save_every_", "not_finite", "data.init_args.num_workers", "data.init_args.data_dir",
    "data.init_args.download", "data.init_args.holding",
)  # fmt: skip
# Options that may change on resume, but change the rounding.
_ROUNDING = ("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.num_nodes", "compile", "threads")
_ROUNDING_TEXT = "the last digits may differ from those of an uninterrupted run"
_SCHEDULE = "model.init_args.scheduler"
_LENGTH = ("trainer.max_epochs", "trainer.max_steps")
_RATE = "model.init_args.optimizer.lr"


@dataclass
class ResumedRun:
    """A run to continue: its newest checkpoint (none if it was killed before the first) and the changed options."""

    weights: CheckpointFile
    extension: Extension | None = None
    given: tuple[str, ...] = ()  # names of the options on the command line
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    note: str = ""  # lines about library versions, source files or a best.ckpt that changed since the run started

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        assert self.weights.folder is not None
        return self.weights.folder

    @property
    def step(self) -> int:
        """Number of optimizer steps in the checkpoint."""
        return int(self.weights.content.get("global_step", 0))

    @property
    def logged_steps(self) -> int:
        """Number of steps that were logged before the checkpoint; later rows and events are logged again."""
        return self.weights.logged_steps

    def continue_config(self, config_text: str, model: LightningModule, data: LightningDataModule) -> str:
        """Return the config from here on, and prepare the model for `--extend_schedule hold`.

        Raises an error if data or options changed that must not change.
        """
        environment = self.environment()
        old, new = self._config_of_checkpoint(), yaml.safe_load(config_text)
        notes = [_version_note(environment.get("versions") or {}), _source_note(environment.get("sources") or {})]
        if self.folder.best.is_file():
            notes.append(CheckpointFile(self.folder.best, self.folder).note)
        self.note = "\n".join(note for note in notes if note)
        spec = getattr(model, "scheduler_spec", None)
        if self.extension == "stretch" and spec is None:
            raise UserError(
                "resume: --extend_schedule stretch needs a learning rate schedule (model.scheduler), "
                "and this run has none. Remove the option."
            )
        hold = "hold" in (self.extension, (environment.get("resumed") or [{}])[-1].get("extend_schedule"))
        if self.extension == "hold" and spec is not None:
            new["model"]["init_args"]["scheduler"] = None
        known = dict(flat(old))  # an option that a later version of litlab added has its default
        self.changes = {
            name: values
            for name, values in differences(old, new).items()
            if stated(name, known) or as_typed(name).startswith(self.given)
        }
        for name, (was, now) in self.changes.items():
            free = name.startswith((*_FREE, *_ROUNDING, *_LENGTH)) or name == _RATE
            free |= name == "trainer.callbacks" and changing_callbacks(was) == changing_callbacks(now)
            free |= name.startswith(_SCHEDULE) and hold and now is None
            free |= name == "mode"  # it was checked, and only decides which epoch is the best
            if not free:
                raise UserError(
                    f"resume: {_change_text(name, was, now)}. This option cannot change during a run. Remove it, or "
                    "start a new run with `litlab fit`."
                    + (how_to_declare(was, now) if name == "trainer.callbacks" else "")
                )
        self._check_length(spec)
        if _RATE in self.changes and spec is not None:
            raise UserError(
                "resume: model.optimizer.lr cannot change while a learning rate schedule (model.scheduler) sets it. "
                "Remove the option."
            )
        if changed := changed_data(data, environment.get("data") or {}):
            what, old_hash, new_hash = changed
            raise UserError(
                f"resume: the {what} changed since the run started (SHA-256 {old_hash[:12]}…, now {new_hash[:12]}…). "
                "Use the same files, or start a new run with `litlab fit`."
            )
        if self.extension == "hold":
            model.scheduler_spec = None  # type: ignore[assignment]
            config_text = dump_yaml(new)
        return config_text

    def _config_of_checkpoint(self) -> dict[str, Any]:
        """Return the config that the checkpoint was trained with; a killed `resume` may have changed config.yaml."""
        stored = self.weights.content.get("config")
        if not stored:
            return read_config(self.folder.config)
        try:
            config = load_yaml(stored)
        except (yaml.YAMLError, AttributeError, TypeError, ValueError, RecursionError):  # not text, or not a config
            config = None
        if not isinstance(config, dict):
            raise UserError(
                f"resume: the config in {self.weights.path} is corrupted. Start a new run: "
                f"`litlab fit {shown(self.folder.config)}`."
            )
        return config

    def environment(self) -> dict[str, Any]:
        """Return the run's environment.json; raise an error if it is missing or corrupted."""
        config, last = shown(self.folder.config), self.folder.last
        start = f" --ckpt_path {shown(last)}" if last.is_file() else ""
        remedy = f"Restore the file, or start a new run: `litlab fit {config}{start}`."
        # A run that was killed before its first checkpoint may have no `chosen` yet.
        required = ["versions", "chosen"] if self.weights.path is not None else []
        return require_environment(self.folder, "resume", remedy, *required)

    def _check_length(self, schedule: Any) -> None:
        longer = [name for name in _LENGTH if name in self.changes]
        if "trainer.max_steps" in longer:
            was, now = self.changes["trainer.max_steps"]
            if -1 in (was, now) or now < was:
                raise UserError(
                    f"resume: {_change_text('trainer.max_steps', was, now)}. On resume it can only increase, and "
                    "a run cannot change between steps and epochs. Set a larger number of steps."
                )
        if "trainer.max_epochs" in longer and self.weights.path is not None:
            now, done = self.changes["trainer.max_epochs"][1], self.weights.epochs_done
            if now is not None and 0 <= now <= done:
                raise UserError(
                    f"resume: --trainer.max_epochs must be more than {done}, the number of finished epochs, got {now}."
                )
        if self.extension is not None and not longer:
            raise UserError("resume: --extend_schedule needs a longer run. Set --trainer.max_epochs too.")
        if longer and self.extension is None and depends_on_run_length(schedule):
            raise UserError(
                f"resume: the learning rate schedule ends with the run, so a larger {longer[0]} needs one more "
                "option: --extend_schedule hold keeps the last learning rate, --extend_schedule stretch stretches the "
                "schedule over the new length and continues at the current step."
            )

    def callback(self, config_text: str) -> Callback:
        """Return the callback that applies and records the changes when training starts, not before."""
        rate = self.changes.get(_RATE)
        return ApplyChanges(None if rate is None else float(rate[1]), self.extension, lambda: self._write(config_text))

    def check_newest(self) -> None:
        """Raise an error if another process has trained the run since its checkpoint was read."""
        if self.weights.replaced() or (self.weights.path is None and self.folder.last.exists()):
            raise UserError(
                f"resume: {shown(self.folder.path)} was trained by another process in the meantime. Run the command "
                "again to continue from there."
            )

    @property
    def finished(self) -> bool:
        """True if the run is finished and no changed option makes it longer."""
        ended = any(r["verb"] == "fit" and r.get("steps") == self.step for r in read_results(self.folder))
        return ended and not self.changes.keys() & {*_LENGTH, "patience", "min_delta", "trainer.max_time"}

    @property
    def tested(self) -> bool:
        """True if best.ckpt was tested after the run was finished."""
        newest_first = [result["verb"] for result in reversed(read_results(self.folder))]
        return "test" in newest_first[: newest_first.index("fit")]

    def _write(self, config_text: str) -> None:
        entry = {
            "time": timestamp(),
            "from_step": self.step,
            "changed": {as_typed(name): list(values) for name, values in self.changes.items()},
            "extend_schedule": self.extension,
            "git": git_state(),
            "sources": sources(),
            "versions": versions(),
        }
        with self.folder.edit_environment() as environment:
            environment.setdefault("resumed", []).append(entry)
        if self.changes:
            write_text(self.folder.config, config_text)

    def summary(self) -> str:
        """Return the step from which the run continues, and the changed options."""
        if self.weights.path is None:
            return "from the start: the run has no checkpoint yet"
        place = f"from step {self.step:,} (epoch {self.weights.epoch_shown})"
        changes = self.changes.items()
        parts = [f"{as_typed(name)} {json.dumps(was)} -> {json.dumps(now)}" for name, (was, now) in changes]
        if any(name.startswith(_ROUNDING) for name in self.changes):
            parts.append(_ROUNDING_TEXT)
        return ", ".join([place, *["; ".join(parts)] * bool(parts)])


class ApplyChanges(NoStepHooks, Callback):
    """Callback that, once the checkpoint is loaded, sets a new learning rate or stretches the learning rate schedule.

    `record` stores the changes in the run folder.
    """

    def __init__(
        self, rate: float | None, extension: Extension | None = None, record: Callable[[], None] = lambda: None
    ) -> None:
        self.rate, self.extension, self.record = rate, extension, record

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.record()
        if self.rate is not None:
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = self.rate
        if self.extension == "stretch":
            rebuild_schedule(pl_module, trainer)


class EndTraining(NoStepHooks, Callback):
    """Callback that ends the training of a run that was killed after its last step.

    Lightning then trains no step, and calls neither `on_train_start` nor `on_train_end`, which draws the last figures.
    """

    _trains = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._trains = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._trains:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]  # public, without a type
                if not isinstance(callback, ProgressBar):  # it was not started
                    callback.on_train_end(trainer, pl_module)
            pl_module.on_train_end()


def _change_text(name: str, was: Any, now: Any) -> str:
    return f"{as_typed(name)} was {json.dumps(was)} and is now {json.dumps(now)}"


def _version_note(old: Mapping[str, str]) -> str:
    """Return a line about library versions that changed since the run started, "" if none did."""
    new = versions()
    changed = [name for name in ("litlab", "torch", "lightning") if old.get(name, new[name]) != new[name]]
    if not changed:
        return ""
    text = ", ".join(f"{name} {old[name]} (now {new[name]})" for name in changed)
    return f"note    started with {text}: {_ROUNDING_TEXT}"


def _source_note(old: Mapping[str, str]) -> str:
    """Return a line about the user's source files that changed since the run started, "" if none did."""
    new = sources()
    changed = [name for name in sorted(old) if name != "litlab" and old[name] != new.get(name, old[name])]
    return f"note    started with other code: {', '.join(changed)} changed since then" if changed else ""

"""The run that `resume` continues: what may change, what may not, and how changes are applied and recorded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

from callbacks import NoStepHooks
from callbacks.changes_training import changing_callbacks, how_to_declare
from datamodules import LitDataModule
from experiments.messages.errors import UserError
from experiments.messages.formatting import shown
from experiments.options.config_diff import as_typed, differences, flat, stated
from experiments.options.config_files import read_config
from experiments.runs import environment
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.folder import RunFolder, read_environment, read_results, write_text
from lit_models import depends_on_run_length, rebuild_schedule

Extension = Literal["hold", "stretch"]

# Options that may change on resume: they change nothing that is computed, or only when training ends.
_FREE = (
    "trainer.logger", "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps",
    "trainer.profiler",
    "trainer.max_time", "trainer.min_", "trainer.num_sanity_val_steps", "trainer.limit_test_batches",
    "trainer.limit_predict_batches", "trainer.detect_anomaly", "patience", "min_delta", "test_after_fit",
    "save_every_", "not_finite", "data.init_args.num_workers", "data.init_args.data_dir", "data.init_args.download",
    "data.init_args.holding",
)  # fmt: skip
# Options that may change too, but change the rounding.
_ROUNDING = ("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.num_nodes", "compile", "threads")
_SCHEDULE = "model.init_args.scheduler"
_LENGTH = ("trainer.max_epochs", "trainer.max_steps")
_RATE = "model.init_args.optimizer.lr"


@dataclass
class Resumed:
    """A run to continue: its newest checkpoint (none if it was killed before the first) and the changed options."""

    weights: CheckpointFile
    extension: Extension | None = None
    given: tuple[str, ...] = ()  # names of the options on the command line
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    note: str = ""  # set if library versions changed since the run started

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        assert self.weights.folder is not None
        return self.weights.folder

    @property
    def step(self) -> int:
        """Number of optimizer steps in the checkpoint."""
        return int(self.weights.content.get("global_step", 0))

    def check(self, config_text: str, model: LightningModule, data: LightningDataModule) -> str:
        """Raise if options or data differ from those of the checkpoint; return the config from here on."""
        record = self.record()
        # The config of the checkpoint: a change that reached config.yaml but no checkpoint is made again.
        old = self._began_with()
        self.note = _other_versions(record.get("versions") or {})
        new = yaml.safe_load(config_text)
        spec = getattr(model, "scheduler_spec", None)
        before = (record.get("resumed") or [{}])[-1].get("extend_schedule")
        if self.extension == "stretch" and spec is None:
            raise UserError(
                "resume: --extend_schedule stretch needs a learning rate schedule (model.scheduler), "
                "and this run has none. Remove the option."
            )
        held = self.extension == "hold" or before == "hold"
        if self.extension == "hold" and spec is not None:
            new["model"]["init_args"]["scheduler"] = None
        known = dict(flat(old))  # an option that a later litlab added has its default
        self.changes = {
            name: values for name, values in differences(old, new).items() if stated(name, known) or self._typed(name)
        }
        for name, (was, now) in self.changes.items():
            free = name.startswith((*_FREE, *_ROUNDING, *_LENGTH)) or name == _RATE
            free |= name == "trainer.callbacks" and changing_callbacks(was) == changing_callbacks(now)
            free |= name.startswith(_SCHEDULE) and held and now is None
            if not free:
                raise UserError(
                    f"resume: {as_typed(name)} was {_text(was)} and is now {_text(now)}. This option cannot change "
                    "during a run. Remove it, or start a new run with `litlab fit`."
                    + (how_to_declare(was, now) if name == "trainer.callbacks" else "")
                )
        self._check_length(old, model)
        if _RATE in self.changes and spec is not None:
            raise UserError(
                "resume: model.optimizer.lr cannot change while a schedule (model.scheduler) sets the learning rate. "
                "Remove the option."
            )
        self._check_data(data, record)
        if self.extension == "hold":
            config_text = yaml.safe_dump(new, sort_keys=False, allow_unicode=True)
        return config_text

    def _began_with(self) -> dict[str, Any]:
        kept = self.weights.content.get("config")
        if not kept:
            return read_config(self.folder.config)
        try:
            found = yaml.safe_load(kept)
        except (yaml.YAMLError, AttributeError):  # not text
            found = None
        if not isinstance(found, dict):
            raise UserError(
                f"resume: the config in {self.weights.path} is corrupted. Start a new run: "
                f"`litlab fit {shown(self.folder.config)}`."
            )
        return found

    def _typed(self, name: str) -> bool:
        return as_typed(name).startswith(self.given) if self.given else False

    def record(self) -> dict[str, Any]:
        """Return the run's environment.json; raise if it is missing or corrupted."""
        last = self.folder.last
        try:
            found = read_environment(self.folder.environment)
            if "chosen" not in found and self.weights.path is None:
                return found  # killed before anything was chosen
            found["versions"], found["chosen"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"resume: {shown(self.folder.environment)} is missing or corrupted; it records data and precision of "
                "the run. Put it back, or start a new run: "
                f"`litlab fit {shown(self.folder.config)}{f' --ckpt_path {shown(last)}' if last.is_file() else ''}`."
            ) from error
        return found

    def _check_length(self, old: Mapping[str, Any], model: LightningModule) -> None:
        longer = [name for name in _LENGTH if name in self.changes]
        if "trainer.max_steps" in longer:
            was, now = self.changes["trainer.max_steps"]
            if -1 in (was, now) or now < was:
                raise UserError(
                    f"resume: trainer.max_steps was {_text(was)} and is now {_text(now)}. On resume it can only "
                    "grow, and a run cannot change between steps and epochs. Set a larger number of steps."
                )
        if "trainer.max_epochs" in longer and self.weights.path is not None:
            now = self.changes["trainer.max_epochs"][1]
            done = self.weights.epochs_done
            if now is not None and 0 <= now <= done:
                raise UserError(
                    f"resume: --trainer.max_epochs must be more than {done}, the epochs that are done, got {now}."
                )
        spec = getattr(model, "scheduler_spec", None)
        if self.extension is not None and not longer:
            raise UserError("resume: --extend_schedule needs a longer run. Set --trainer.max_epochs too.")
        if longer and self.extension is None and depends_on_run_length(spec):
            raise UserError(
                f"resume: the learning rate schedule ends with the run, so a larger {longer[0]} needs one more "
                "option: --extend_schedule hold keeps the last learning rate, --extend_schedule stretch plans it again "
                "over the new length and continues at the current step."
            )

    def _check_data(self, data: LightningDataModule, record: Mapping[str, Any]) -> None:
        if not isinstance(data, LitDataModule):
            return
        kept, now = (record.get("data") or {}).get("sha256") or {}, data.hashes()
        for name, what in (("train_data", "training data"), ("split", "split")):
            if kept.get(name, now.get(name)) != now.get(name):
                raise UserError(
                    f"resume: the {what} changed since the run started (SHA-256 {str(kept[name])[:12]}…, now "
                    f"{str(now.get(name))[:12]}…). Use the same files, or start a new run with `litlab fit`."
                )

    def callbacks(self, config_text: str) -> list[Callback]:
        """Return the callback that applies and records the changes when training starts; before, no file changes."""
        rate = self.changes.get(_RATE)
        return [Changes(None if rate is None else float(rate[1]), self.extension, lambda: self._write(config_text))]

    def prepare_model(self, model: LightningModule) -> None:
        """Remove the learning rate schedule if --extend_schedule is hold."""
        if self.extension == "hold":
            model.scheduler_spec = None  # type: ignore[assignment]

    def check_newest(self) -> None:
        """Raise if another process has trained the run since its checkpoint was read."""
        if self.weights.replaced() or (self.weights.path is None and self.folder.last.exists()):
            raise UserError(
                f"resume: {shown(self.folder.path)} was trained by another process in the meantime. Run the command "
                "again to continue from there."
            )

    @property
    def finished(self) -> bool:
        """True if the run is finished and no changed option makes it longer."""
        ended = any(r["verb"] == "fit" and r.get("steps") == self.step for r in read_results(self.folder))
        longer = (*_LENGTH, "patience", "min_delta", "trainer.max_time")
        return ended and not any(name in longer for name in self.changes)

    @property
    def tested(self) -> bool:
        """True if best.ckpt was tested after the run was finished."""
        records = [record["verb"] for record in read_results(self.folder)]
        return "test" in records[::-1][: records[::-1].index("fit")]

    def _write(self, config_text: str) -> None:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "from_step": self.step,
            "changed": {as_typed(name): list(values) for name, values in self.changes.items()},
            "extend_schedule": self.extension,
            "git": environment.git_state(),
            "versions": environment.versions(),
        }
        with self.folder.edit_environment() as record:
            record.setdefault("resumed", []).append(entry)
        if self.changes:
            write_text(self.folder.config, config_text)

    def words(self) -> str:
        """Return where the run continues, and which options changed."""
        if self.weights.path is None:
            return "from the start: the run has no checkpoint yet"
        place = f"from step {self.step:,} (epoch {self.weights.epoch_shown})"
        changed = "; ".join(f"{as_typed(n)} {_text(was)} -> {_text(now)}" for n, (was, now) in self.changes.items())
        if any(name.startswith(_ROUNDING) for name in self.changes):
            changed += "; the last digits may differ from an uninterrupted run's"
        return f"{place}{', ' if changed else ''}{changed}"


class Changes(NoStepHooks, Callback):
    """Sets a new learning rate or rebuilds the schedule once the checkpoint is loaded; `note` records the change."""

    def __init__(
        self, rate: float | None, extension: Extension | None = None, note: Callable[[], None] = lambda: None
    ) -> None:
        self.rate, self.extension, self.note = rate, extension, note

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.note()
        if self.rate is not None:
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = self.rate
        if self.extension == "stretch":
            rebuild_schedule(pl_module, trainer)


def _other_versions(then: Mapping[str, str]) -> str:
    """Return one line if library versions changed since the run started."""
    now = environment.versions()
    other = [name for name in ("litlab", "torch", "lightning") if then.get(name, now[name]) != now[name]]
    if not other:
        return ""
    changed = ", ".join(f"{name} {then[name]} (now {now[name]})" for name in other)
    return f"note    started with {changed}: the last digits may differ from an uninterrupted run's"


def _text(value: Any) -> str:
    return json.dumps(value)

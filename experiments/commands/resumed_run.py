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
from experiments.messages.text import count, shown
from experiments.options.config_diff import as_typed, differences, flat, stated
from experiments.options.config_files import read_config
from experiments.runs import environment
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.folder import RunFolder, read_environment, read_results, write_text
from lit_models import depends_on_run_length, rebuild_schedule

Extension = Literal["hold", "stretch"]
EXTENSIONS: tuple[Extension, ...] = ("hold", "stretch")

# What may differ when a run goes on: it changes nothing that is computed, or only when training ends.
_FREE = (
    "trainer.logger", "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps",
    "trainer.profiler",
    "trainer.max_time", "trainer.min_", "trainer.num_sanity_val_steps", "trainer.limit_test_batches",
    "trainer.limit_predict_batches", "trainer.detect_anomaly", "patience", "min_delta", "test_after_fit",
    "save_every_", "not_finite", "data.init_args.num_workers", "data.init_args.data_dir", "data.init_args.download",
    "data.init_args.holding",
)  # fmt: skip
# What may differ, but rounding then does too.
_ROUNDING = ("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.num_nodes", "compile", "threads")
_SCHEDULE = "model.init_args.scheduler"
_LENGTH = ("trainer.max_epochs", "trainer.max_steps")
_RATE = "model.init_args.optimizer.lr"


@dataclass
class Resumed:
    """A run that goes on: its folder, its newest checkpoint (none if it was killed before the first), what changed."""

    weights: CheckpointFile
    extension: Extension | None = None
    given: tuple[str, ...] = ()  # the options that were typed
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    note: str = ""  # where the libraries are not those of then

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        assert self.weights.folder is not None
        return self.weights.folder

    @property
    def step(self) -> int:
        """Optimizer steps that the checkpoint holds."""
        return int(self.weights.content.get("global_step", 0))

    def check(self, config_text: str, model: LightningModule, data: LightningDataModule) -> str:
        """Refuse settings and data other than those of the checkpoint, naming both values; the config from here on."""
        record = self.record()
        # What the state was trained with: a change that reached config.yaml but no checkpoint is made again.
        old = self._began_with()
        self.note = _other_versions(record.get("versions") or {})
        new = yaml.safe_load(config_text)
        spec = getattr(model, "scheduler_spec", None)
        before = (record.get("resumed") or [{}])[-1].get("extend_schedule")
        if self.extension == "stretch" and spec is None:
            raise UserError(
                "resume: --extend_schedule stretch needs a schedule, and this run has none (model.scheduler). "
                "Leave it out."
            )
        held = self.extension == "hold" or before == "hold"
        if self.extension == "hold" and spec is not None:
            new["model"]["init_args"]["scheduler"] = None
        known = dict(flat(old))  # an option that a later litlab has come to know has its default
        self.changes = {
            name: values for name, values in differences(old, new).items() if stated(name, known) or self._typed(name)
        }
        for name, (was, now) in self.changes.items():
            free = name.startswith((*_FREE, *_ROUNDING, *_LENGTH)) or name == _RATE
            free |= name == "trainer.callbacks" and changing_callbacks(was) == changing_callbacks(now)
            free |= name.startswith(_SCHEDULE) and held and now is None
            if not free:
                raise UserError(
                    f"resume: {as_typed(name)} was {_text(was)} and is now {_text(now)}. A run goes on only with the "
                    "settings that it began with; leave the option out, or start a new run by `litlab fit`."
                    + (how_to_declare(was, now) if name == "trainer.callbacks" else "")
                )
        self._check_length(old, model)
        if _RATE in self.changes and spec is not None:
            raise UserError(
                "resume: model.optimizer.lr cannot be changed while a schedule (model.scheduler) decides the rate. "
                "Leave the option out."
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
        except (yaml.YAMLError, AttributeError):  # no text at all
            found = None
        if not isinstance(found, dict):
            raise UserError(f"resume: the settings in {self.weights.path} are damaged.")
        return found

    def _typed(self, name: str) -> bool:
        return as_typed(name).startswith(self.given) if self.given else False

    def record(self) -> dict[str, Any]:
        """The run's environment.json; raises in words where it is missing or damaged."""
        last = self.folder.last
        try:
            found = read_environment(self.folder.environment)
            if "chosen" not in found and self.weights.path is None:
                return found  # killed before anything was chosen
            found["versions"], found["chosen"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"resume: {shown(self.folder.environment)} is missing or damaged; it says with which data and in what "
                "precision the run was trained. Put it back, or start a new run: "
                f"`litlab fit {shown(self.folder.config)}{f' --ckpt_path {shown(last)}' if last.is_file() else ''}`."
            ) from error
        return found

    def _check_length(self, old: Mapping[str, Any], model: LightningModule) -> None:
        longer = [name for name in _LENGTH if name in self.changes]
        if "trainer.max_steps" in longer:
            was, now = self.changes["trainer.max_steps"]
            if -1 in (was, now) or now < was:
                raise UserError(
                    f"resume: trainer.max_steps was {_text(was)} and is now {_text(now)}; a run that goes on can have "
                    "more steps, not fewer, and cannot change between steps and epochs."
                )
        if "trainer.max_epochs" in longer and self.weights.path is not None:
            now = self.changes["trainer.max_epochs"][1]
            done = self.weights.epochs_done
            if now is not None and 0 <= now <= done:
                raise UserError(
                    f"resume: the run has {count(done, 'epoch')} already; --trainer.max_epochs must be more, not {now}."
                )
        spec = getattr(model, "scheduler_spec", None)
        if self.extension is not None and not longer:
            raise UserError("resume: --extend_schedule says how a longer run goes on; give --trainer.max_epochs too.")
        if longer and self.extension is None and depends_on_run_length(spec):
            raise UserError(
                f"resume: the schedule of this run ends with it, so more of {longer[0]} needs your word. "
                "--extend_schedule hold keeps the rate where it is now, --extend_schedule stretch plans the schedule "
                "anew over the whole length and goes on at the present step."
            )

    def _check_data(self, data: LightningDataModule, record: Mapping[str, Any]) -> None:
        if not isinstance(data, LitDataModule):
            return
        kept, now = (record.get("data") or {}).get("sha256") or {}, data.hashes()
        for name, words in (("train_data", "training data"), ("split", "split")):
            if kept.get(name, now.get(name)) != now.get(name):
                raise UserError(
                    f"resume: the {words} differ from those of the run (SHA-256 {str(kept[name])[:12]}… then, "
                    f"{str(now.get(name))[:12]}… now). Give the same files, or start a new run by `litlab fit`."
                )

    def callbacks(self, config_text: str) -> list[Callback]:
        """What makes the changes, and writes them down once training has begun: until then nothing is touched."""
        rate = self.changes.get(_RATE)
        return [Changes(None if rate is None else float(rate[1]), self.extension, lambda: self._write(config_text))]

    def prepare_model(self, model: LightningModule) -> None:
        """Take the schedule away where the rate is to stay."""
        if self.extension == "hold":
            model.scheduler_spec = None  # type: ignore[assignment]

    def check_newest(self) -> None:
        """Refuse where another process has trained the run since its checkpoint was read."""
        if self.weights.replaced() or (self.weights.path is None and self.folder.last.exists()):
            raise UserError(
                f"resume: {shown(self.folder.path)} was trained by another process until now. Say it again to go on "
                "from there."
            )

    @property
    def finished(self) -> bool:
        """Whether the run came to its end, and nothing that was changed makes it longer."""
        ended = any(r["verb"] == "fit" and r.get("steps") == self.step for r in read_results(self.folder))
        longer = (*_LENGTH, "patience", "min_delta", "trainer.max_time")
        return ended and not any(name in longer for name in self.changes)

    @property
    def tested(self) -> bool:
        """Whether best.ckpt was tested after the run's end."""
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
        """Where it goes on, and with what changes."""
        if self.weights.path is None:
            return "from the start: the run has no checkpoint yet"
        place = f"from step {self.step:,} (epoch {self.weights.epoch_shown})"
        changed = "; ".join(f"{as_typed(n)} {_text(was)} -> {_text(now)}" for n, (was, now) in self.changes.items())
        if any(name.startswith(_ROUNDING) for name in self.changes):
            changed += "; the last digits may differ from an unbroken run's"
        return f"{place}{', ' if changed else ''}{changed}"


class Changes(NoStepHooks, Callback):
    """A new learning rate or a schedule planned anew, once the checkpoint has been loaded; `note` writes it down."""

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
    """One line where the numbers may depend on a library that is not the one of then."""
    now = environment.versions()
    other = [name for name in ("litlab", "torch", "lightning") if then.get(name, now[name]) != now[name]]
    if not other:
        return ""
    words = ", ".join(f"{name} {then[name]} (now {now[name]})" for name in other)
    return f"note    begun with {words}: the last digits may differ from an unbroken run's"


def _text(value: Any) -> str:
    return json.dumps(value)

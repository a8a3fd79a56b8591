"""The verb `fit`: check data and model together, claim the run folder, train, and say what came of it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import HyperParameters
from experiments import environment
from experiments.catalogue import runs_dir
from experiments.checkpoint import Weights
from experiments.defaults import fit_callbacks, loggers
from experiments.run_folder import RunFolder
from experiments.settings import FitSettings
from experiments.words import count

# Set by the process that claims the folder, read by those that Lightning starts beside it.
_HANDED_ON = "LITLAB_RUN_FOLDER"
_DEFAULT_EPOCHS = 10


@dataclass
class Plan:
    """What `prepare` decided: the settings, the folder (none for a `fast_dev_run`) and arguments for the Trainer."""

    settings: FitSettings
    folder: RunFolder | None
    trainer: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)


def prepare_data(data: LightningDataModule) -> bool:
    """Load and split the training data of litlab's own datamodules; whether there is a validation part."""
    if hasattr(data, "hashes"):
        data.prepare_data()
        data.setup("fit")
    return bool(getattr(data, "has_validation", True))


def check_machine(options: dict[str, Any]) -> None:
    """Refuse what would fail or give nonsense only after the first steps."""
    import torch

    on_cpu = options.get("accelerator") == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if on_cpu and str(options.get("precision")) in ("16-true", "16"):
        raise MisconfigurationException(
            f"trainer.precision: {options['precision']} gives NaN on a CPU. Take bf16-mixed or 32-true."
        )
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise MisconfigurationException(
            "litlab does not run under torchrun yet: it would train independent runs. "
            "Start it plainly with --trainer.devices N --trainer.strategy ddp."
        )


def prepare(
    settings: FitSettings, data: LightningDataModule, config_text: str, seed: int, options: dict[str, Any]
) -> Plan:
    """Claim the run folder and choose the Trainer's arguments; `options` are those that the user gave."""
    check_machine(options)
    extra: dict[str, Any] = {}
    if options.get("max_epochs") is None and options.get("max_steps", -1) == -1 and options.get("max_time") is None:
        extra["max_epochs"] = _DEFAULT_EPOCHS
    users = options.get("callbacks") or []
    users = list(users) if isinstance(users, (list, tuple)) else [users]
    callbacks = [*users, *fit_callbacks(settings, options, config_text)]
    if options.get("fast_dev_run"):
        return Plan(settings, None, {**extra, "callbacks": callbacks, "logger": False})
    folder = _claim(settings.experiment, config_text, environment.describe(seed, data))
    return Plan(
        settings,
        folder,
        {
            **extra,
            "callbacks": callbacks,
            "logger": loggers(folder, options.get("logger")),
            "default_root_dir": str(folder.path),
        },
    )


def _claim(experiment: str, config_text: str, facts: dict[str, Any]) -> RunFolder:
    """One process claims the folder; those that Lightning starts for further devices are handed it."""
    handed = os.environ.get(_HANDED_ON)
    if handed and os.environ.get("LOCAL_RANK", "0") != "0":
        return RunFolder(Path(handed))
    files = {"config.yaml": config_text, "environment.json": json.dumps(facts, indent=2) + "\n"}
    folder = RunFolder.claim(runs_dir(), experiment, files)
    os.environ[_HANDED_ON] = str(folder.path)
    return folder


def train(
    trainer: Trainer, model: LightningModule, data: LightningDataModule, plan: Plan, weights: Weights | None
) -> None:
    """Fit, then write down and print what came of it; with `test_after_fit` test the best weights too."""
    if trainer.is_global_zero:
        _say_start(trainer, data, plan)
    if weights is not None and weights.path is not None:
        weights.check(model)
        trainer.fit(model, datamodule=data, ckpt_path=weights.path, weights_only=True)
    else:
        trainer.fit(model, datamodule=data)
    if plan.folder is None:
        if trainer.is_global_zero:
            print("fast_dev_run: every stage ran; nothing was written.")
        return
    if trainer.is_global_zero:
        _say_end(trainer, data, plan, plan.folder)
    if plan.settings.test_after_fit and plan.folder.best.is_file():
        from experiments.evaluation import score

        score("test", trainer, model, data, Weights(plan.folder.best, plan.folder))
        if trainer.is_global_zero:
            _say_next(plan.folder, tested=True)
    elif trainer.is_global_zero:
        _say_next(plan.folder, tested=False)


def _say_start(trainer: Trainer, data: LightningDataModule, plan: Plan) -> None:
    if plan.folder is not None:
        record = json.loads(plan.folder.environment.read_text(encoding="utf-8"))
        record["chosen"] = environment.chosen(trainer)
        plan.folder.environment.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        print(f"run     {shown(plan.folder.path)}")
    print(f"data    {type(data).__name__}{sizes_text(data)}")
    chosen = environment.chosen(trainer)
    device = chosen["accelerator"].removesuffix("Accelerator").upper()
    number = f" x {chosen['devices']}" if chosen["devices"] > 1 else ""
    print(f"device  {device}{number}, precision {chosen['precision']}", flush=True)


def sizes_text(data: LightningDataModule) -> str:
    """': 48,000 train, 12,000 validation' for litlab's own data, else nothing."""
    sizes = getattr(data, "split_sizes", None)
    if not callable(sizes):
        return ""
    names = {"val": "validation"}
    parts = [f"{count(number)} {names.get(part, part)}" for part, number in sizes().items()]
    return f": {', '.join(parts)}" if parts else ""


def _say_end(trainer: Trainer, data: LightningDataModule, plan: Plan, folder: RunFolder) -> None:
    seconds = time.monotonic() - plan.started
    if not folder.best.is_file():
        print(
            f"\nNo epoch was finished in {seconds:.1f} s: there are no weights to test.\nrun     {shown(folder.path)}"
        )
        return
    weights = Weights(folder.best, folder)
    record = next((c for c in plan.trainer["callbacks"] if isinstance(c, HyperParameters)), None)
    figures = record.metrics if record is not None else {}
    sizes = data.split_sizes() if hasattr(data, "split_sizes") else {}
    folder.add_result(
        {
            "verb": "fit",
            **weights.facts(),
            "split": "validation",
            "n": sizes.get("val"),
            "metrics": figures,
            "seconds": round(seconds, 2),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
    )
    trained = count(trainer.current_epoch, "epoch")
    monitor = plan.settings.monitor
    reason = f"{monitor} {figures[monitor]:.6f}" if monitor in figures else "the newest; nothing was validated"
    print(f"\nTrained {trained} in {seconds:.1f} s. Best: epoch {weights.epoch_shown} ({reason}).")
    print(f"run     {shown(folder.path)}")


def _say_next(folder: RunFolder, tested: bool) -> None:
    if not tested and folder.best.is_file():
        print(f"next    litlab test {shown(folder.path)}")
    print(f"look    tensorboard --logdir {shown(folder.path.parent)}", flush=True)


def shown(path: Path) -> str:
    """A path as one would type it here: relative where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)

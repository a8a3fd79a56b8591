"""The options of a run that are litlab's own, beside `trainer`, `model` and `data`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.machine.choice import Wishes
from experiments.messages.text import did_you_mean, say

DEFAULT_SEED = 42
_MAX_SEED = 2**32 - 1
_HIGHER_IS_BETTER = ("acc", "top", "precision", "recall", "f1", "auroc", "r2")
_LOWER_IS_BETTER = ("loss", "mae", "mse")


@dataclass(frozen=True)
class FitSettings:
    """What decides the best epoch and when to stop; `monitor` None means that the newest epoch is the best."""

    experiment: str
    monitor: str | None
    mode: Literal["min", "max"]
    patience: int | None = None
    min_delta: float = 0.0
    test_after_fit: bool = False
    not_finite: Literal["stop", "skip"] = "stop"
    save_every_steps: int | None = None
    save_every_minutes: float | None = None
    machine: Wishes = field(default_factory=Wishes)


def add_run_options(parser: LightningArgumentParser, experiment: str) -> None:
    """Add litlab's own options to a verb's parser."""
    group = parser.add_argument_group("Run")
    group.add_argument("--experiment", type=str, default=experiment, help="Name of the folder below runs/.")
    group.add_argument("--monitor", type=str | None, default=None, help="Metric that decides the best epoch.")
    group.add_argument(
        "--mode", type=Literal["min", "max"] | None, default=None, help="Whether less or more is better."
    )
    group.add_argument(
        "--patience", type=int | None, default=None, help="Stop after N validations without a better one."
    )
    group.add_argument("--min_delta", type=float, default=0.0, help="The least change that counts as better.")
    group.add_argument("--test_after_fit", type=bool, default=False, help="Test the best weights when fit is done.")
    group.add_argument(
        "--not_finite",
        type=Literal["stop", "skip"],
        default="stop",
        help="Where a loss is NaN or infinite: stop, or skip the optimizer step.",
    )
    group.add_argument(
        "--save_every_steps", type=int | None, default=None, help="Write last.ckpt within an epoch after N steps."
    )
    group.add_argument(
        "--save_every_minutes", type=float | None, default=None, help="Write last.ckpt within an epoch after N minutes."
    )
    group.add_argument(
        "--channels_last",
        type=bool | None,
        default=None,
        help="Channels last in memory; null: where it is faster.",
    )
    group.add_argument(
        "--threads", type=int | None, default=None, help="Threads to compute with; null: the cores, 1 for tiny nets."
    )
    group.add_argument("--compile", type=bool, default=False, help="Compile the network by torch.compile.")
    group.add_argument(
        "--steps_per_call", type=int, default=1, help="Optimizer steps per call of training_step; for tiny nets."
    )


def read_wishes(config: Any) -> Wishes:
    """What the user asked of the machine; every verb has these options."""
    return Wishes(config.channels_last, config.threads, config.compile, config.steps_per_call)


def read_settings(config: Any, model: LightningModule, has_validation: bool) -> FitSettings:
    """Settings from the parsed config, the gaps filled from what the model says it logs."""
    names: tuple[str, ...] | None = getattr(model, "metric_names", None)
    monitor = config.monitor
    if monitor is None and names:
        monitor = "val/acc" if "val/acc" in names else "val/loss"
    elif monitor is not None and names and monitor not in (known := _logged(names)):
        raise MisconfigurationException(
            f"monitor: {type(model).__name__} does not log '{monitor}'.{did_you_mean(monitor, known)} "
            f"It logs {', '.join(known)}."
        )
    patience = config.patience
    if patience is not None and patience < 1:
        raise MisconfigurationException(f"patience: {patience} is not possible; give 1 or more validations, or null.")
    if patience is not None and monitor is None:
        raise MisconfigurationException("patience: early stopping needs a metric to watch; name it by --monitor.")
    if not has_validation and monitor is not None and monitor.startswith("val/"):
        if patience is not None:
            raise MisconfigurationException(
                f"patience: early stopping watches {monitor}, and this run has no validation part. "
                "Set --data.val_split, or --patience null."
            )
        monitor = None
    if not 0 <= config.min_delta < math.inf:
        raise MisconfigurationException(f"min_delta: {config.min_delta} is not possible; give 0 or more.")
    mode = _mode(monitor, config.mode)
    return FitSettings(
        config.experiment,
        monitor,
        mode,
        patience,
        config.min_delta,
        config.test_after_fit,
        config.not_finite,
        config.save_every_steps,
        config.save_every_minutes,
        read_wishes(config),
    )


def _mode(monitor: str | None, asked: Literal["min", "max"] | None) -> Literal["min", "max"]:
    """The direction of a metric that we know by name is not a matter of choice: a `mode` left over is replaced."""
    known = (monitor or "").rpartition("/")[2].startswith((*_HIGHER_IS_BETTER, *_LOWER_IS_BETTER))
    if asked is not None and known and asked != better(monitor):
        say(f"mode: {asked} does not fit {monitor}; using {better(monitor)}.")
        return better(monitor)
    return asked or better(monitor)


def _logged(names: tuple[str, ...]) -> list[str]:
    """Validation metrics, and what every model of ours logs beside them."""
    return [*names, *(name.replace("val/", "train/") for name in names), "gap/loss", "train/l1", "train/l2"]


def better(monitor: str | None) -> Literal["min", "max"]:
    """The direction in which a metric improves, by its name: accuracies up, losses and errors down."""
    name = (monitor or "").rpartition("/")[2]
    return "max" if name.startswith(_HIGHER_IS_BETTER) else "min"


def check_seed(value: Any) -> None:
    """Only a whole number is a seed: `true` would be replaced by 0 silently, `false` would leave none to write down."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_SEED:
        raise MisconfigurationException(
            f"seed_everything: {value!r} is not a seed; give a whole number from 0 to {_MAX_SEED}."
        )

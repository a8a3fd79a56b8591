"""Options of a run in addition to `model`, `data` and `trainer`. Does not import torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from experiments.machine.performance_options import PerformanceOptions
from experiments.messages.errors import UserError

DEFAULT_SEED = 42
_MAX_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class RunOptions(PerformanceOptions):
    """Options of every command that trains or scores, which are also config keys.

    Args:
        experiment: Name of the folder in runs/.
        monitor: Metric that decides the best epoch; null means that the newest epoch is the best.
        mode: Whether a lower (min) or a higher (max) value of the metric is better.
        patience: Stop after N validations without improvement.
        min_delta: Smallest change of the metric that counts as an improvement.
        test_after_fit: Test the best weights after training.
        not_finite: What to do if a loss is NaN or infinite: stop, or skip the optimizer step.
        save_every_steps: Write last.ckpt every N optimizer steps, also within an epoch.
        save_every_minutes: Write last.ckpt every N minutes, also within an epoch.
        channels_last: Store images channels-last; null chooses by the model and the hardware.
        threads: Number of CPU threads; null means one per core, or one for tiny networks.
        compile: Compile the network with torch.compile.
        steps_per_call: Number of optimizer steps in each call of training_step; speeds up tiny networks.
    """

    experiment: str = "run"
    monitor: str | None = None
    mode: Literal["min", "max"] | None = None
    patience: int | None = None
    min_delta: float = 0.0
    test_after_fit: bool = False
    not_finite: Literal["stop", "skip"] = "stop"
    save_every_steps: int | None = None
    save_every_minutes: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patience is not None and self.patience < 1:
            raise UserError(f"patience must be 1 or more validations, got {self.patience}. Set --patience 1 or null.")
        if not 0 <= self.min_delta < math.inf:
            raise UserError(f"min_delta must be 0 or more, got {self.min_delta}. Set --min_delta 0.")


def check_seed(value: Any) -> None:
    """Raise a UserError unless the value is a valid seed; Lightning would use 0 for `true`, no seed for `false`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_SEED:
        raise UserError(f"seed_everything must be an integer from 0 to {_MAX_SEED}, got {value!r}. Set another seed.")

"""Options that affect the speed and the rounding of a run, but not its method. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.messages.errors import UserError

MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class PerformanceOptions:
    """Values that the user has set; None leaves the choice to the rule in performance_choice.py."""

    channels_last: bool | None = None
    threads: int | None = None
    compile: bool = False
    steps_per_call: int = 1

    def __post_init__(self) -> None:
        for name, value in (("threads", self.threads), ("steps_per_call", self.steps_per_call)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UserError(f"{name} must be a positive integer, got {value!r}. Set --{name} 1 or more.")
        if self.threads is not None and self.threads > MOST_THREADS:  # the system would not start them
            raise UserError(f"threads must be at most {MOST_THREADS:,}, got {self.threads}. Set fewer --threads.")

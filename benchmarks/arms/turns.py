"""Two trainings take turns within each epoch, so that both see the machine at the same speed."""

from __future__ import annotations

import torch

from benchmarks.arms.raw import RawTraining, clock

SLICE = 20  # steps between two turns of the raw loop: about a second or less


class Turns:
    """Clock of a Trainer's epochs; meanwhile the raw loop trains epochs of its own, a few steps at a time.

    Seconds of every epoch: `raw`, `loop` (from the epoch's start to the end of its last batch) and `epoch` (until the
    next one starts). The Trainer's random numbers are as they would be alone.
    """

    def __init__(self, raw: RawTraining, steps_in_call: int = 1) -> None:
        self.training, self.device = raw, raw.machine.device
        self.calls = max(1, SLICE // steps_in_call)  # of training_step, between two turns
        self.number = self.calls * steps_in_call
        self.raw: list[float] = []
        self.loop: list[float] = []
        self.epoch: list[float] = []
        self._begun = self._apart = self._raw_seconds = self._paused = 0.0

    def start_epoch(self) -> None:
        """Before the first batch."""
        self.end_epoch()
        self._apart = self._raw_seconds = 0.0
        with torch.random.fork_rng():
            self.training.begin()
        self._begun = clock(self.device)

    def after_call(self, index: int) -> None:
        """After each batch, or list of batches."""
        if (index + 1) % self.calls == 0:
            self._let_raw_step(self.number)

    def end_loop(self) -> None:
        """After the last batch."""
        self._let_raw_step(len(self.training.batches))  # what is left of its epoch
        self.raw.append(self._raw_seconds)
        self.loop.append(clock(self.device) - self._begun - self._apart)

    def pause(self) -> None:
        """What follows does not count."""
        self._paused = clock(self.device)

    def resume(self) -> None:
        """It counts again."""
        self._apart += clock(self.device) - self._paused

    def end_epoch(self) -> None:
        """When the next epoch starts, and after the last one."""
        if len(self.epoch) < len(self.loop):
            self.epoch.append(clock(self.device) - self._begun - self._apart)

    def without_the_first(self) -> None:
        """The first epoch warms up."""
        for seconds in (self.raw, self.loop, self.epoch):
            del seconds[0]

    def _let_raw_step(self, number: int) -> None:
        self.pause()
        # What is left of an epoch comes at the validation's start, where Lightning has switched gradients off.
        with torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
            self._raw_seconds += self.training.steps(number)
        self.resume()

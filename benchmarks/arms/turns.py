"""Alternating execution of two training loops within each epoch, so that both run at the same machine speed."""

from __future__ import annotations

import torch

from benchmarks.arms.raw import RawTraining, clock

SLICE = 20  # steps of a Trainer between two turns of the raw loop: about 1 s or less


class Turns:
    """Timer for the epochs of a Trainer that also trains the raw loop, a few steps at a time.

    The lists contain the seconds of every epoch: `raw`, `loop` (from the start of the epoch to the end of its last
    batch) and `epoch` (until the next epoch starts). The random numbers of the Trainer do not change.
    """

    def __init__(self, raw: RawTraining, steps_in_call: int = 1) -> None:
        self.training, self.device = raw, raw.machine.device
        self.calls = max(1, SLICE // steps_in_call)  # calls of training_step between two turns
        self.number = self.calls * steps_in_call
        self.raw: list[float] = []
        self.loop: list[float] = []
        self.epoch: list[float] = []
        self._start = self._excluded = self._raw_seconds = self._paused = 0.0

    def start_epoch(self) -> None:
        """Start the timer; call this before the first batch."""
        self.end_epoch()
        self._excluded = self._raw_seconds = 0.0
        with torch.random.fork_rng():
            self.training.begin()
        self._start = clock(self.device)

    def after_call(self, index: int) -> None:
        """Run the raw loop if it is its turn; call this after each `training_step`."""
        if (index + 1) % self.calls == 0:
            self._run_raw(self.number)

    def end_loop(self) -> None:
        """Finish the epoch of the raw loop; call this after the last batch."""
        self._run_raw(len(self.training.batches))  # the remaining steps of its epoch
        self.raw.append(self._raw_seconds)
        self.loop.append(clock(self.device) - self._start - self._excluded)

    def pause(self) -> None:
        """Stop the timer."""
        self._paused = clock(self.device)

    def resume(self) -> None:
        """Continue the timer."""
        self._excluded += clock(self.device) - self._paused

    def end_epoch(self) -> None:
        """Record the seconds of the epoch; call this when the next epoch starts and after the last one."""
        if len(self.epoch) < len(self.loop):
            self.epoch.append(clock(self.device) - self._start - self._excluded)

    def drop_warmup(self) -> None:
        """Remove the first epoch, which is a warmup."""
        for seconds in (self.raw, self.loop, self.epoch):
            del seconds[0]

    def _run_raw(self, number: int) -> None:
        self.pause()
        # The remaining steps of an epoch run at the start of validation, where Lightning has disabled gradients.
        with torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
            self._raw_seconds += self.training.steps(number)
        self.resume()

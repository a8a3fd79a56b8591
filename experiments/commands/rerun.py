"""usage: litlab rerun RUN [--check] [options]

Trains again from the run's own config.yaml, in a new folder of the same experiment. It uses the same precision, memory
layout, threads, devices and starting checkpoint. Before training it prints what differs: code, versions, data,
hardware, config. Ctrl-C stops it.

  --check                          afterwards compare every value of metrics.csv and results.json and all weights of
                                   best.ckpt and last.ckpt: exit code 0 if they agree; else 1, and it prints the first
                                   difference, its size, and what differs of all that the numbers depend on
  --seed_everything N ...          all options of `litlab fit` override the config; the numbers then differ
  --trainer.deterministic true     on GPUs: only computations that repeat bit for bit (docs/reproducibility.md)
"""

from __future__ import annotations

from dataclasses import replace

from lightning.pytorch import Trainer

from experiments.commands.fit import Fit
from experiments.commands.repeated_run import Origin, Repeated
from experiments.commands.trainer_command import Built
from experiments.messages.errors import DONE, FAILED, UserError
from experiments.options.request import Given
from experiments.runs.checkpoint import CheckpointFile, started_from
from experiments.runs.compare import Comparison
from experiments.runs.folder import RunFolder


class Rerun(Fit):
    """Train a run again in a new folder; with `--check`, compare the numbers."""

    repeated: Repeated | None = None
    comparison: Comparison | None = None  # of a rerun with --check

    def find_weights(self) -> CheckpointFile:
        """Take the run's config and the checkpoint it was started from; raise if it cannot be repeated."""
        request = self.request
        if request.run is None and not request.asks_for_help:
            raise UserError("rerun needs a run, got none. Pass one: `litlab rerun RUN`; `litlab list runs` shows all.")
        if request.run is not None:
            folder, check = RunFolder(request.run.resolve()), bool(request.option("check"))
            self.repeated = Repeated.of(folder, check)
            dry = str(request.option("trainer.fast_dev_run") or "0")
            if check and dry.lower() not in ("false", "0"):
                raise UserError("rerun --check: fast_dev_run keeps nothing to compare. Remove one of them.")
            if request.option("ckpt_path") is None:
                start = started_from("rerun", folder, self.repeated.record)
                request.given += [Given("ckpt_path", str(start))] if start is not None else []
            request.configs.insert(0, folder.config)
        return super().find_weights()

    def origin(self) -> Origin:
        """Return the run that is repeated, too."""
        return replace(super().origin(), repeated=self.repeated)

    def run(self, built: Built, trainer: Trainer | None) -> int:
        """Train, then compare; return 1 if numbers differ."""
        code = super().run(built, trainer)
        if self.repeated is None or not self.repeated.check or trainer is None or not trainer.is_global_zero:
            return code
        assert self.plan.folder is not None
        self.comparison = self.repeated.compare(self.plan.folder)
        return DONE if self.comparison.agrees else FAILED


COMMAND = Rerun

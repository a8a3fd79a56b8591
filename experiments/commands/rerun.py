"""usage: litlab rerun RUN [--check] [options]

Trains again from the run's config.yaml, in a new folder of the same experiment. It uses the same precision, memory
layout, threads, devices and starting checkpoint. Before training it prints what differs: code, versions, data,
hardware, config. Ctrl-C stops it.

  --check                          afterwards compare every value of metrics.csv and results.json and all weights of
                                   best.ckpt and last.ckpt: exit code 0 if they agree; else 1, with the first
                                   difference, its size, and all differences that can explain it
  --seed_everything N ...          all options of `litlab fit` override the config; the results then differ
  --trainer.deterministic true     on GPUs: only computations that repeat bit for bit (docs/reproducibility.md)
"""

from __future__ import annotations

from lightning.pytorch import Trainer

from experiments.commands.fit import Fit
from experiments.commands.rerun_reference import ReferenceRun
from experiments.commands.trainer_command import Built
from experiments.messages.errors import DONE, FAILED, UserError
from experiments.options.request import Given
from experiments.runs.checkpoint import CheckpointFile, started_from
from experiments.runs.folder import RunFolder


class Rerun(Fit):
    """Train a run again in a new folder; with `--check`, compare the results."""

    def find_weights(self) -> CheckpointFile:
        """Use the run's config and starting checkpoint; raise an error if the run cannot be repeated."""
        request = self.request
        if request.run is not None:  # it is None only for help
            folder, check = RunFolder(request.run.resolve()), bool(request.option("check"))
            self.reference = ReferenceRun.read(folder, check)
            dry = str(request.option("trainer.fast_dev_run") or "0")
            if check and dry.lower() not in ("false", "0"):
                raise UserError("rerun --check: fast_dev_run saves nothing to compare. Remove one of them.")
            if request.option("ckpt_path") is None:
                start = started_from("rerun", folder, self.reference.environment)
                request.given += [Given("ckpt_path", str(start))] if start is not None else []
            request.configs.insert(0, folder.config)
        return super().find_weights()

    def run(self, built: Built, trainer: Trainer | None) -> int:
        """Train, then compare; return 1 if results differ."""
        code = super().run(built, trainer)
        if self.reference is None or not self.reference.check or trainer is None or not trainer.is_global_zero:
            return code
        assert self.plan.folder is not None
        return DONE if self.reference.compare(self.plan.folder).agrees else FAILED


COMMAND = Rerun

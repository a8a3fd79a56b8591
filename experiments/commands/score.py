"""usage: litlab {command} RUN [options]

Scores weights on the {split} split, and prints which checkpoint, epoch and split made the numbers.
RUN is a run folder, or an experiment's name, meaning its newest run. Its own config and best weights are used.

  --ckpt_path FILE                 other weights; `last` for the last epoch; works without RUN for a run's file
  --config FILE                    another config than the run's own
  --untrained                      random weights, on purpose
  --data.batch_size N ...          all options of `litlab fit`
  --help-all                       all options
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from callbacks.records.scored_samples import ScoredSamples
from experiments.commands.scored_weights import find_weights
from experiments.commands.scoring import score, trainer_options
from experiments.commands.trainer_command import Built, TrainerCommand
from experiments.machine import performance_choice
from experiments.machine.hardware import processes
from experiments.machine.processes import check_program
from experiments.messages.errors import DONE
from experiments.options.request import Request
from experiments.runs.environment import read_chosen


class Score(TrainerCommand):
    """Validate or test stated weights on a stated split."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.weights = find_weights(request)
        self.scored = ScoredSamples()

    def trainer_arguments(self, built: Built, options: dict[str, Any]) -> dict[str, Any]:
        """Check that the weights fit the model, and use the performance options that the run recorded."""
        self.weights.check(built.model)
        if self.request.command.name != "predict":
            check_program(processes(options), options.get("strategy"))
        folder = self.weights.folder
        self.choice = performance_choice.from_record(read_chosen(folder) if folder else {}, options, built.options)
        performance_choice.set_memory_layout(self.choice, built.model)
        chosen = trainer_options(options, folder, self.choice)
        chosen["callbacks"].append(self.scored)
        return chosen

    def run(self, built: Built, trainer: Trainer | None) -> int:
        """Score with the run's threads."""
        assert trainer is not None
        with performance_choice.thread_settings(self.choice, trainer.num_devices):
            return self.score(built, trainer)

    def score(self, built: Built, trainer: Trainer) -> int:
        """Validate or test, print the metrics and write them into the run folder."""
        score(self.request.command.name, trainer, built.model, built.data, self.weights, self.scored)
        return DONE


COMMAND = Score

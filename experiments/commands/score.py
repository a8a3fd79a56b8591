"""usage: litlab {command} RUN [options]

Scores weights on the {split} split, and prints the metrics with checkpoint, epoch and split.
RUN is a run folder, or the name of an experiment for its newest run. Its config and best weights are used.

  --ckpt_path FILE                 other weights; `last` for the last epoch; a file in a run folder needs no RUN
  --config FILE                    another config than that of the run
  --untrained                      random weights
  --data.batch_size N ...          the data, model and trainer options of `litlab fit`
  --help-all                       all options
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from lightning.pytorch import Trainer

from callbacks.records.scored_samples import ScoredSamples
from experiments.commands.evaluation import evaluate, evaluation_arguments
from experiments.commands.find_checkpoint import find_checkpoint
from experiments.commands.other_data import results_folder
from experiments.commands.trainer_command import Built, TrainerCommand
from experiments.machine import performance_choice
from experiments.machine.hardware import processes
from experiments.machine.performance_options import PerformanceOptions
from experiments.machine.processes import check_program
from experiments.messages.errors import DONE, UserError
from experiments.options.request import Request
from experiments.options.run_options import RunOptions
from experiments.runs.environment import read_chosen
from experiments.runs.folder import RunFolder

_ONLY_FIT = {field.name for field in fields(RunOptions)} - {field.name for field in fields(PerformanceOptions)}


class Score(TrainerCommand):
    """Validate or test a checkpoint, or random weights with `--untrained`."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        if unused := next((name for name in request.names if name in _ONLY_FIT), None):
            raise UserError(
                f"{request.command.name}: --{unused} is an option of training and has no effect here. Remove it."
            )
        self.weights = find_checkpoint(request)
        self.samples = ScoredSamples()
        self.folder: RunFolder | None = None  # for the results
        self.metrics: dict[str, float] = {}

    def saved_data_properties(self) -> dict[str, Any] | None:
        """Return the properties of the data that the weights were trained on."""
        return self.weights.data_properties

    def trainer_arguments(self, built: Built, options: dict[str, Any]) -> dict[str, Any]:
        """Check that the weights fit the model, and use the performance options that the run recorded."""
        self.weights.check(built.model)
        if self.request.command.name != "predict":
            check_program(processes(options), options.get("strategy"))
        folder = self.weights.folder
        self.folder = results_folder(self.request, built.data, folder)
        self.choice = performance_choice.from_record(read_chosen(folder) if folder else {}, options, built.options)
        performance_choice.set_memory_layout(self.choice, built.model)
        arguments = evaluation_arguments(options, self.folder, self.choice)
        arguments["callbacks"].append(self.samples)
        return arguments

    def run(self, built: Built, trainer: Trainer | None) -> int:
        """Score with the run's number of threads."""
        assert trainer is not None
        with performance_choice.thread_settings(self.choice, trainer.num_devices):
            self.score(built, trainer)
        return DONE

    def score(self, built: Built, trainer: Trainer) -> None:
        """Validate or test, print the metrics and store them in the run folder."""
        name = self.request.command.name
        self.metrics = evaluate(name, trainer, built, self.weights, self.samples, self.folder)


COMMAND = Score

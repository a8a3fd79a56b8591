"""usage: litlab predict RUN [options]

Writes a CSV file with one row per test sample: sample, truth, prediction, probabilities.
RUN is a run folder, or the name of an experiment for its newest run. Its config and best weights are used.

  --ckpt_path FILE                 other weights; `last` for the last epoch; a file in a run folder needs no RUN
  --config FILE                    another config than that of the run
  --untrained                      random weights
  --output FILE                    the file to write; default: a new file in the run folder
  --data.batch_size N ...          the data, model and trainer options of `litlab fit`
  --help-all                       all options
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from callbacks import PredictionWriter
from callbacks.trainer_state import is_dry_run
from experiments.commands.evaluation import print_checkpoint, print_data, without_callback_warnings
from experiments.commands.score import Score
from experiments.commands.trainer_command import Built
from experiments.messages.formatting import count, shown
from experiments.runs.folder import RunFolder


class Predict(Score):
    """Write predictions with probabilities to a CSV file."""

    def trainer_arguments(self, built: Built, options: dict[str, Any]) -> dict[str, Any]:
        """Add the callback that writes to `--output`, else to a new file in the run folder or the working folder."""
        arguments = super().trainer_arguments(built, options)
        output = self.request.option("output")
        folder = self.folder or RunFolder(Path.cwd())
        self.writer = PredictionWriter(Path(output) if output else folder.unused_path("predictions", ".csv"))
        arguments["callbacks"].append(self.writer)
        return {**arguments, "devices": 1, "strategy": "auto", "num_nodes": 1}  # one process keeps the order of rows

    def score(self, built: Built, trainer: Trainer) -> None:
        """Predict the test split and print the path of the file."""
        model, data, path = built.model, built.data, self.weights.path
        with without_callback_warnings():
            trainer.predict(model, datamodule=data, return_predictions=False, ckpt_path=path, weights_only=True)
        if trainer.is_global_zero and not is_dry_run(trainer):
            print_checkpoint(self.weights)
            print_data(data, self.folder, "predicted: test")
            print(f"written     {shown(self.writer.path)} ({count(self.writer.rows_written, 'row')})", flush=True)


COMMAND = Predict

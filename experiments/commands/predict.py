"""usage: litlab predict RUN [options]

Writes a CSV file with one row per test sample: sample, truth, prediction, probabilities.
RUN is a run folder, or an experiment's name, meaning its newest run. Its own config and best weights are used.

  --ckpt_path FILE                 other weights; `last` for the last epoch; works without RUN for a run's file
  --config FILE                    another config than the run's own
  --untrained                      random weights, on purpose
  --output FILE                    the file to write; default: a new file in the run folder
  --data.batch_size N ...          all options of `litlab fit`
  --help-all                       all options
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from callbacks import PredictionWriter
from experiments.commands.score import Score
from experiments.commands.scoring import is_dry, print_checkpoint, without_callback_warnings
from experiments.commands.trainer_command import Built
from experiments.messages.errors import DONE
from experiments.messages.formatting import count, shown, sizes_text
from experiments.runs.folder import RunFolder


class Predict(Score):
    """Write predictions with probabilities to a CSV file."""

    def trainer_arguments(self, built: Built, options: dict[str, Any]) -> dict[str, Any]:
        """Add the callback that writes to `--output`, else to a new file in the run folder or the working folder."""
        chosen = super().trainer_arguments(built, options)
        output = self.request.option("output")
        folder = self.weights.folder or RunFolder(Path.cwd())
        self.writer = PredictionWriter(Path(output) if output else folder.unused_path("predictions", ".csv"))
        chosen["callbacks"].append(self.writer)
        return {**chosen, "devices": 1, "strategy": "auto", "num_nodes": 1}  # one process keeps the order of the rows

    def score(self, built: Built, trainer: Trainer) -> int:
        """Predict the test split and print where the rows are."""
        with without_callback_warnings():
            trainer.predict(
                built.model,
                datamodule=built.data,
                return_predictions=False,
                ckpt_path=self.weights.path,
                weights_only=True,
            )
        if trainer.is_global_zero and not is_dry(trainer):
            print_checkpoint(self.weights)
            print(f"data        {type(built.data).__name__}{sizes_text(built.data)}; predicted: test")
            print(f"written     {shown(self.writer.path)} ({count(self.writer.rows_written, 'row')})", flush=True)
        return DONE


COMMAND = Predict

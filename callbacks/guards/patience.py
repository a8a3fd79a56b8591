"""Callback for early stopping that works across resumes."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping


class Patience(EarlyStopping):
    """Early stopping that uses the patience given to this command, not the one saved in the checkpoint.

    A run that was killed after its patience ran out, but before it finished, does not continue training.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.wait_count >= self.patience and trainer.global_step:
            trainer.should_stop = True
            validations = f"{self.patience} validation{'' if self.patience == 1 else 's'}"
            trainer.print(f"The patience of {validations} is used up. Set a larger --patience to train longer.")

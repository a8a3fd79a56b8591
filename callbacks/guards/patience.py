"""Early stopping that survives a resume."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping


class Patience(EarlyStopping):
    """Early stopping whose patience is what the run is given now, also where a checkpoint was saved with another.

    A run that was killed when its patience was over, but not yet its work, does not train on.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.wait_count >= self.patience and trainer.global_step:
            trainer.should_stop = True
            validations = f"{self.patience} validation{'' if self.patience == 1 else 's'}"
            trainer.print(f"Its patience of {validations} is over; --patience N trains longer.")

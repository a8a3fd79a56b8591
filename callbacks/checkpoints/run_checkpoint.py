"""Base class of the checkpoints of a run."""

import os
import warnings
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.step_hooks import NoStepHooks

CHECKPOINTS, BEST, LAST = "checkpoints", "best.ckpt", "last.ckpt"  # the folder in a run folder, and its files


class RunCheckpoint(NoStepHooks, ModelCheckpoint):
    """Checkpoint with a fixed file name in `<default_root_dir>/checkpoints`."""

    def __init__(self, filename: str, monitor: str | None, mode: str, on_train_epoch_end: bool | None) -> None:
        super().__init__(
            filename=filename.removesuffix(".ckpt"),
            monitor=monitor,
            mode=mode,
            save_top_k=1,
            auto_insert_metric_name=False,
            save_on_train_epoch_end=on_train_epoch_end,
            enable_version_counter=False,  # else a second file would be named best-v1.ckpt
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.dirpath = os.path.join(trainer.default_root_dir, CHECKPOINTS)
        with warnings.catch_warnings():
            # A resumed run finds its own checkpoints there.
            warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
            super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Use the current paths if the run folder was moved together with its checkpoints."""
        old, new = state_dict.get("dirpath"), self.dirpath
        best = os.path.join(str(new), os.path.basename(state_dict.get("best_model_path") or "none"))
        if old and old != new and os.path.isfile(best):
            state_dict = _moved(state_dict, str(old), str(new))
        super().load_state_dict(state_dict)

    def forget(self) -> None:
        """Discard the record of the best file and its score."""
        self.best_model_path = self.kth_best_model_path = ""
        self.best_model_score, self.best_k_models = None, {}


def _moved(value: Any, old: str, new: str) -> Any:
    """Replace the folder `old` by `new` in all paths, in keys and values."""
    if isinstance(value, str):
        return new + value.removeprefix(old) if value.startswith(old) else value
    if isinstance(value, dict):
        return {_moved(name, old, new): _moved(inner, old, new) for name, inner in value.items()}
    return value

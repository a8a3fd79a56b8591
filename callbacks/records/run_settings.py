"""Callback that shows the config of a run in TensorBoard."""

from lightning.pytorch import LightningModule, Trainer

from callbacks.step_hooks import Observer
from callbacks.trainer_state import code_block, tensorboard_writer


class RunSettings(Observer):
    """Config of the run in TensorBoard's TEXT tab.

    | key          | what                            | when         |
    |--------------|---------------------------------|--------------|
    | run/settings | `config` (YAML) as a code block | start of fit |
    """

    def __init__(self, config: str) -> None:
        self.config = config

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = tensorboard_writer(trainer)
        if writer is not None and self.config.strip():
            writer.add_text("run/settings", code_block(self.config), 0)

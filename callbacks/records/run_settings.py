"""The run's settings as a page in TensorBoard."""

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import tensorboard_writer


class RunSettings(NoStepHooks, Callback):
    """The configuration of the run, readable in TensorBoard's TEXT tab.

    | key          | what                                | when         |
    |--------------|-------------------------------------|--------------|
    | run/settings | `config` (YAML) in a code block     | start of fit |
    """

    def __init__(self, config: str) -> None:
        self._config = config

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = tensorboard_writer(trainer)
        if writer is None or not self._config.strip():
            return
        # An indented block: backticks inside the settings cannot end it.
        writer.add_text("run/settings", "\n".join(f"    {line}" for line in self._config.splitlines()), 0)

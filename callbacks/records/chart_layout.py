"""Which curves TensorBoard shows in one chart."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import tensorboard_writer


class ChartLayout(NoStepHooks, Callback):
    """Training and validation in one chart, for TensorBoard's CUSTOM SCALARS tab.

    | key      | what                                                                      | when         |
    |----------|---------------------------------------------------------------------------|--------------|
    | (layout) | a chart for the loss and one for each metric, training beside validation; | start of fit |
    |          | the gap, the learning rate and gradient norms                             |              |
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = tensorboard_writer(trainer)
        names = getattr(pl_module, "metric_names", ("val/loss",))
        if writer is None:
            return
        metrics = [name.removeprefix("val/") for name in names]
        charts = {name: ["Multiline", [f"^train/{name}$", f"^val/{name}$"]] for name in metrics}
        writer.add_custom_scalars(
            {
                "training beside validation": charts,
                "progress": {
                    "val/loss over train/loss": ["Multiline", ["^gap/loss$"]],
                    "learning rate": ["Multiline", ["^lr-.*"]],
                    "gradient norm": ["Multiline", ["^grad_norm/total$", "^grad_norm/clipped$"]],
                },
            }
        )

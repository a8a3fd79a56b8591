"""Callback for the layout of TensorBoard's custom charts."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer

from callbacks.step_hooks import Observer
from callbacks.trainer_state import tensorboard_writer


class ChartLayout(Observer):
    """Layout of TensorBoard's CUSTOM SCALARS tab, with training and validation in one chart.

    | key      | what                                                                   | when         |
    |----------|------------------------------------------------------------------------|--------------|
    | (layout) | loss and each metric, train and val; gap, learning rate, gradient norm | start of fit |
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (writer := tensorboard_writer(trainer)) is None:
            return
        metrics = [name.removeprefix("val/") for name in getattr(pl_module, "metric_names", ("val/loss",))]
        charts = {name: ["Multiline", [f"^train/{name}$", f"^val/{name}$"]] for name in metrics}
        writer.add_custom_scalars(
            {
                "train and val": charts,
                "progress": {
                    "val/loss over train/loss": ["Multiline", ["^gap/loss$"]],
                    "learning rate": ["Multiline", ["^lr-.*"]],
                    "gradient norm": ["Multiline", ["^grad_norm/total$", "^grad_norm/clipped$"]],
                },
            }
        )

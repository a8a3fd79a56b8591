"""What comes out of the layers: its distribution, and how many units never fire."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from callbacks.histograms import add_histogram
from callbacks.layers import CONVOLUTIONS, CUTTING, RECURRENT, captured, chosen_layers, named_layers
from callbacks.step_hooks import NoStepHooks
from callbacks.support import is_dry_run, last_step, tensorboard_writer, undisturbed

_KINDS = (
    (*CUTTING, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.LeakyReLU),
    RECURRENT,
    CONVOLUTIONS,
    (nn.Linear,),
)


class Activations(NoStepHooks, Callback):
    """Outputs of layers over one validation batch, and the share of ReLU units that are zero for all of it.

    | key                 | what                                                           | when                   |
    |---------------------|----------------------------------------------------------------|------------------------|
    | activations/<layer> | histogram of the outputs (TensorBoard)                         | every `every_n_epochs` |
    | dead_units/<layer>  | share of channels (dense layers: units) that are never above 0 | every `every_n_epochs` |

    Layers are the activation functions if none is named. Dead units are counted after each ReLU of the network, over
    all samples and places of the first validation batch.
    """

    def __init__(self, layers: list[str] | None = None, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise MisconfigurationException(f"Activations.every_n_epochs must be 1 or more, not {every_n_epochs}.")
        self.layers = layers
        self.every_n_epochs = every_n_epochs
        self._chosen: dict[str, nn.Module] = {}
        self._inputs: Tensor | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._inputs = None
        self._chosen = chosen_layers("Activations", pl_module, self.layers, _KINDS)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._inputs is None and trainer.is_global_zero and self._chosen:
            inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
            self._inputs = inputs.clone()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        due = epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs
        if not due or self._inputs is None or is_dry_run(trainer):
            return
        cutting = {n: layer for n, layer in named_layers(pl_module).items() if isinstance(layer, CUTTING)}
        with (
            undisturbed(pl_module),
            captured({**cutting, **self._chosen}) as outputs,
            torch.compiler.set_stance("force_eager"),
            trainer.precision_plugin.forward_context(),
        ):
            pl_module(self._inputs)
        writer = tensorboard_writer(trainer)
        if writer is not None:
            for name in self._chosen:
                if name in outputs:
                    add_histogram(writer, f"activations/{name}", outputs[name], last_step(trainer))
        shares = {f"dead_units/{name}": dead_share(outputs[name]) for name in cutting if name in outputs}
        if shares:
            for logger in trainer.loggers:
                logger.log_metrics(shares, step=last_step(trainer))


def dead_share(output: Tensor) -> float:
    """Share of units that are 0 or less for every sample: channels of (B, C, ...), units of (B, F)."""
    units = output.detach().movedim(1, 0).flatten(1) if output.dim() > 1 else output.detach()[:, None]
    return float((units <= 0).all(dim=1).float().mean())

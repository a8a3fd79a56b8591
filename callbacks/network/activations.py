"""What comes out of the layers: its distribution, and how many units never fire."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from callbacks.forward import split_batch, told, undisturbed
from callbacks.network.histograms import add_histogram
from callbacks.network.layers import CONVOLUTIONS, CUTTING, RECURRENT, captured, chosen_layers, named_layers
from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import is_dry_run, last_step, tensorboard_writer

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
    all samples and places of the first validation batch; the last state of a run is always shown.
    """

    def __init__(self, layers: list[str] | str | None = None, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise MisconfigurationException(f"Activations.every_n_epochs must be 1 or more, not {every_n_epochs}.")
        self.layers = [layers] if isinstance(layers, str) else layers
        self.every_n_epochs = every_n_epochs
        self._chosen: dict[str, nn.Module] = {}
        self._inputs: Tensor | None = None
        self._written = -1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._inputs, self._written = None, -1
        self._chosen = chosen_layers("Activations", pl_module, self.layers, _KINDS)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._inputs is None and trainer.is_global_zero and self._chosen:
            inputs, _ = split_batch(batch)
            if inputs is None:
                self._chosen = {}
                rank_zero_warn("Activations: a batch does not begin with a tensor; nothing is shown.")
                return
            self._inputs = inputs.clone()  # a loader may use the batch's memory again

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._inputs is None or is_dry_run(trainer) or self._written == last_step(trainer):
            return
        self._written = last_step(trainer)
        with told("Activations", "what the layers put out"):
            self._look(trainer, pl_module, self._inputs)

    def _look(self, trainer: Trainer, pl_module: LightningModule, inputs: Tensor) -> None:
        cutting = {n: layer for n, layer in named_layers(pl_module).items() if isinstance(layer, CUTTING)}
        with (
            undisturbed(pl_module),
            captured({**cutting, **self._chosen}) as outputs,
            torch.compiler.set_stance("force_eager"),
            trainer.precision_plugin.forward_context(),
        ):
            pl_module(inputs)
        writer = tensorboard_writer(trainer)
        shares = {}
        for call, output in outputs.items():
            name = call.partition("#")[0]
            if writer is not None and name in self._chosen:
                add_histogram(writer, f"activations/{call}", output, last_step(trainer))
            if name in cutting:
                last = output.dim() == 3 and not follows_conv1d(pl_module, name)
                shares[f"dead_units/{call}"] = dead_share(output, lowest_of(cutting[name]), -1 if last else 1)
        if shares:
            for logger in trainer.loggers:
                logger.log_metrics(shares, step=last_step(trainer))


def dead_share(output: Tensor, lowest: float = 0.0, axis: int = 1) -> float:
    """Share of units that are at their lowest value for every sample; units are channels (B, C, ...), or lie on `axis`.

    NaN where a unit's output is.
    """
    units = output.detach().movedim(axis, 0).flatten(1) if output.dim() > 1 else output.detach()[:, None]
    dead = (units <= lowest).all(dim=1).float()
    return float(torch.where(torch.isnan(units).any(dim=1), torch.nan, dead).mean())


def lowest_of(layer: nn.Module) -> float:
    """Where an activation function cuts: below it no gradient comes through."""
    if isinstance(layer, nn.Threshold):
        return float(layer.value)
    return float(layer.min_val) if isinstance(layer, nn.Hardtanh) else 0.0


def follows_conv1d(module: LightningModule, name: str) -> bool:
    """Whether the nearest layer with weights before this one gives (B, C, L), not (B, T, F)."""
    before: nn.Module | None = None
    for other, layer in named_layers(module).items():
        if other == name:
            break
        if isinstance(layer, (*CONVOLUTIONS, *RECURRENT, nn.Linear)):
            before = layer
    return isinstance(before, nn.Conv1d)

"""Callback for the distribution of layer outputs and for dead units."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from callbacks.forward import NOT_A_TENSOR, isolated_forward, split_batch, warn_on_error
from callbacks.network.histograms import add_histogram
from callbacks.network.layers import CONVOLUTIONS, RECTIFIERS, RECURRENT, capture_outputs, named_layers, select_layers
from callbacks.step_hooks import EpochObserver
from callbacks.trainer_state import last_step, log_to_all, tensorboard_writer

_KINDS = (
    (*RECTIFIERS, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.LeakyReLU),
    RECURRENT,
    CONVOLUTIONS,
    (nn.Linear,),
)


class Activations(EpochObserver):
    """Histograms of layer outputs for one validation batch, and the share of dead ReLU units.

    | key                 | what                                                           | when                   |
    |---------------------|----------------------------------------------------------------|------------------------|
    | activations/<layer> | histogram of the outputs (TensorBoard)                         | every `every_n_epochs` |
    | dead_units/<layer>  | share of channels (dense layers: units) that are never above 0 | every `every_n_epochs` |

    The default layers are the activation functions. Dead units are counted after each ReLU of the network, over all
    samples and positions of the first validation batch. The end of training is always logged.
    """

    def __init__(self, layers: list[str] | str | None = None, every_n_epochs: int = 1) -> None:
        super().__init__(every_n_epochs)
        self.layers = layers
        self._chosen: dict[str, nn.Module] = {}
        self._inputs: Tensor | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._inputs = None
        self._chosen = select_layers("Activations", pl_module, self.layers, _KINDS)

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        if self._inputs is None and trainer.is_global_zero and self._chosen:
            inputs = split_batch(batch)[0]
            if inputs is None:
                self._chosen = {}
                rank_zero_warn(NOT_A_TENSOR.format("Activations"))
            else:
                self._inputs = inputs.clone()  # a dataloader may reuse the memory of the batch

    def write(self, trainer: Trainer, module: LightningModule, epoch: int) -> None:
        if self._inputs is not None:
            with warn_on_error("Activations", "the layer outputs"):
                self._log_outputs(trainer, module, self._inputs)

    def _log_outputs(self, trainer: Trainer, pl_module: LightningModule, inputs: Tensor) -> None:
        rectifiers = {n: layer for n, layer in named_layers(pl_module).items() if isinstance(layer, RECTIFIERS)}
        with (
            isolated_forward(pl_module),
            capture_outputs({**rectifiers, **self._chosen}) as outputs,
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
            if name in rectifiers:
                axis = -1 if output.dim() == 3 and not follows_conv1d(pl_module, name) else 1
                shares[f"dead_units/{call}"] = dead_share(output, lowest_output(rectifiers[name]), axis)
        if shares:
            log_to_all(trainer, shares)


def dead_share(output: Tensor, lowest: float = 0.0, axis: int = 1) -> float:
    """Return the share of units that are never above `lowest`; NaN if an output is NaN.

    Units are the elements along `axis`, by default the channels of `(B, C, ...)`.
    """
    units = output.detach().movedim(axis, 0).flatten(1) if output.dim() > 1 else output.detach()[:, None]
    dead = (units <= lowest).all(dim=1).float()
    return float(torch.where(torch.isnan(units).any(dim=1), torch.nan, dead).mean())


def lowest_output(layer: nn.Module) -> float:
    """Return the lowest output of a rectifier, at which its gradient is zero."""
    if isinstance(layer, nn.Threshold):
        return float(layer.value)
    return float(layer.min_val) if isinstance(layer, nn.Hardtanh) else 0.0


def follows_conv1d(module: LightningModule, name: str) -> bool:
    """Return True if the layer's input `(B, C, L)` comes from a Conv1d, False if it is a sequence `(B, T, F)`."""
    earlier = takewhile(lambda item: item[0] != name, named_layers(module).items())
    weighted = [layer for _, layer in earlier if isinstance(layer, (*CONVOLUTIONS, *RECURRENT, nn.Linear))]
    return bool(weighted) and isinstance(weighted[-1], nn.Conv1d)

"""Weight initialization by name.

An initialization applies to all matrices and filters: weights of linear, convolution, recurrent and embedding layers.
Biases start at 0, normalization layers at weight 1 and bias 0. Other vectors, such as the slope of PReLU or the scale
of RMSNorm, keep their values. Only "default" and "torch" may choose other biases.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from lit_models.parts.specs import Spec, as_spec, build, resolve

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_NORMS = (*_BATCH_NORMS, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)


def _constant(weight: Tensor, value: float = 0.5) -> None:
    nn.init.constant_(weight, value)


def _uniform(weight: Tensor, low: float = -0.1, high: float = 0.1) -> None:
    nn.init.uniform_(weight, low, high)


def _default() -> None:
    """Do nothing; `initialize` replaces it by `_by_layer`, which needs the layer."""


def _torch() -> None:
    """Do nothing; torch's own constructors have initialized the network."""


INITIALIZATIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "default": _default,
        "torch": _torch,
        "zeros": nn.init.zeros_,
        "ones": nn.init.ones_,
        "constant": _constant,
        "uniform": _uniform,
        "normal": partial(nn.init.normal_, std=0.01),
        "xavier_uniform": nn.init.xavier_uniform_,
        "xavier_normal": nn.init.xavier_normal_,
        "kaiming_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
        "kaiming_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
        "orthogonal": nn.init.orthogonal_,
    }
)


def _resolve(spec: Spec) -> tuple[Callable[..., Any], dict[str, Any]]:
    by_layer = as_spec(spec, "init")["class_path"].lower() in ("default", "torch")
    return resolve(spec, INITIALIZATIONS, "init", supplied=0 if by_layer else 1)


def check_initialization(spec: Spec) -> None:
    """Raise an error if a name or an argument is wrong, by initializing a small weight."""
    target, arguments = _resolve(spec)
    if target not in (_default, _torch):
        build(target, (torch.empty(2, 2),), arguments, "init")


def initialize(network: nn.Module, spec: Spec = "default") -> nn.Module:
    """Initialize the network in place and return it.

    "default" uses Kaiming initialization (fan out) for convolutions and Xavier for linear and recurrent layers. "torch"
    keeps the initialization by torch's own constructors.
    """
    target, arguments = _resolve(spec)
    if target is _torch:
        return network
    for layer in network.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if isinstance(layer, _NORMS):
                nn.init.constant_(parameter, 1.0 if name == "weight" else 0.0)
            elif parameter.dim() < 2 and "bias" not in name:
                continue
            elif parameter.dim() < 2:
                # With few inputs and zero biases, the kinks of all ReLU units would be at the origin.
                bound = layer.in_features**-0.5 if target is _default and isinstance(layer, nn.Linear) else 0.0
                nn.init.uniform_(parameter, -bound, bound)
            elif target is _default:
                _by_layer(layer, name, parameter)
            else:
                build(target, (parameter,), arguments, "init")
        if target is _default and isinstance(layer, nn.LSTM):
            _open_forget_gates(layer)
    return network


def _by_layer(layer: nn.Module, name: str, weight: nn.Parameter) -> None:
    if isinstance(layer, _CONVOLUTIONS):
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(layer, nn.Embedding):
        nn.init.normal_(weight)
    elif isinstance(layer, nn.RNNBase):
        # One matrix contains all gates. Initialize each gate alone, else its fan would be several times too large.
        initialization = nn.init.orthogonal_ if "_hh_" in name else nn.init.xavier_uniform_
        for gate in weight.data.chunk(weight.shape[0] // layer.hidden_size):
            initialization(gate)
    else:
        nn.init.xavier_uniform_(weight)


def _open_forget_gates(layer: nn.LSTM) -> None:
    """Set the forget gates' biases to 1, so that the LSTM keeps its cell state at first (Jozefowicz et al. 2015)."""
    for name, bias in layer.named_parameters():
        if name.startswith("bias_ih"):
            nn.init.ones_(bias.data[layer.hidden_size : 2 * layer.hidden_size])

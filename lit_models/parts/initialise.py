"""Weight initialisation by name.

A name reaches the weights of linear, convolution, recurrent and embedding layers; biases start at 0, normalisation
layers at weight 1 and bias 0, so that the weights alone are compared. "default" and "torch" choose biases as well.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from lit_models.parts.specs import Spec, as_spec, build, resolve

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.InstanceNorm2d,
)


def _constant(weight: Tensor, value: float = 0.5) -> None:
    nn.init.constant_(weight, value)


def _uniform(weight: Tensor, low: float = -0.1, high: float = 0.1) -> None:
    nn.init.uniform_(weight, low, high)


def _normal(weight: Tensor, mean: float = 0.0, std: float = 0.01) -> None:
    nn.init.normal_(weight, mean, std)


def _xavier_uniform(weight: Tensor, gain: float = 1.0) -> None:
    nn.init.xavier_uniform_(weight, gain)


def _xavier_normal(weight: Tensor, gain: float = 1.0) -> None:
    nn.init.xavier_normal_(weight, gain)


def _kaiming_uniform(weight: Tensor, mode: str = "fan_in", nonlinearity: str = "relu", a: float = 0.0) -> None:
    nn.init.kaiming_uniform_(weight, a=a, mode=mode, nonlinearity=nonlinearity)  # type: ignore[arg-type]


def _kaiming_normal(weight: Tensor, mode: str = "fan_in", nonlinearity: str = "relu", a: float = 0.0) -> None:
    nn.init.kaiming_normal_(weight, a=a, mode=mode, nonlinearity=nonlinearity)  # type: ignore[arg-type]


def _orthogonal(weight: Tensor, gain: float = 1.0) -> None:
    nn.init.orthogonal_(weight, gain)


def _default() -> None:
    """Stands for `_by_layer`, which needs to see the layer."""


def _torch() -> None:
    """Stands for leaving everything as torch's constructors drew it."""


INITIALISATIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "default": _default,
        "torch": _torch,
        "zeros": partial(_constant, value=0.0),
        "ones": partial(_constant, value=1.0),
        "constant": _constant,
        "uniform": _uniform,
        "normal": _normal,
        "xavier_uniform": _xavier_uniform,
        "xavier_normal": _xavier_normal,
        "kaiming_uniform": _kaiming_uniform,
        "kaiming_normal": _kaiming_normal,
        "orthogonal": _orthogonal,
    }
)


def _resolve(spec: Spec) -> tuple[Callable[..., Any], dict[str, Any]]:
    whole = as_spec(spec, "init")["class_path"].lower() in ("default", "torch")
    return resolve(spec, INITIALISATIONS, "init", supplied=0 if whole else 1)


def check_initialisation(spec: Spec) -> None:
    """Find a wrong name or value now, on a dummy weight."""
    target, settings = _resolve(spec)
    if target not in (_default, _torch):
        build(target, (torch.empty(2, 2),), settings, "init")


def initialise(network: nn.Module, spec: Spec = "default") -> nn.Module:
    """Initialise the network in place by name and return it.

    "default" pairs Kaiming (fan out) with convolutions and Xavier with linear and recurrent layers; "torch" leaves what
    torch's own constructors drew.
    """
    target, settings = _resolve(spec)
    if target is _torch:
        return network
    for layer in network.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if isinstance(layer, _NORMS):
                nn.init.constant_(parameter, 1.0 if name == "weight" else 0.0)
            elif parameter.dim() < 2:
                _bias(layer, parameter, spread=target is _default)
            elif target is _default:
                _by_layer(layer, name, parameter)
            else:
                build(target, (parameter,), settings, "init")
        if target is _default and isinstance(layer, nn.LSTM):
            _open_forget_gates(layer)
    return network


def _bias(layer: nn.Module, bias: nn.Parameter, spread: bool) -> None:
    """Zero, or for linear layers spread over +-1/sqrt(inputs): with few inputs, zero bends every unit at the origin."""
    bound = layer.in_features**-0.5 if spread and isinstance(layer, nn.Linear) else 0.0
    nn.init.uniform_(bias, -bound, bound)


def _by_layer(layer: nn.Module, name: str, weight: nn.Parameter) -> None:
    if isinstance(layer, _CONVOLUTIONS):
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(layer, nn.Embedding):
        nn.init.normal_(weight)
    elif isinstance(layer, nn.RNNBase):
        # One matrix holds all gates: each gate is drawn by itself, or its fan would be counted several times over.
        draw = nn.init.orthogonal_ if "_hh_" in name else nn.init.xavier_uniform_
        for gate in weight.data.chunk(weight.shape[0] // layer.hidden_size):
            draw(gate)
    else:
        nn.init.xavier_uniform_(weight)


def _open_forget_gates(layer: nn.LSTM) -> None:
    """Forget-gate bias 1, so that memory lasts at the start (Jozefowicz et al. 2015)."""
    for name, bias in layer.named_parameters():
        if name.startswith("bias_ih"):
            nn.init.ones_(bias.data[layer.hidden_size : 2 * layer.hidden_size])

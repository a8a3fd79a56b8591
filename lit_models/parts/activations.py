"""Activations by name, or any `torch.nn` class or class path."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from torch import nn

from lit_models.parts import specs
from lit_models.parts.specs import Spec

ACTIVATIONS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "relu": nn.ReLU,
        "leaky_relu": partial(nn.LeakyReLU, negative_slope=0.01),
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "identity": nn.Identity,
    }
)


def build_activation(spec: Spec) -> nn.Module:
    """Return a new activation module; every layer needs its own, so that callbacks can observe each."""
    target, arguments = specs.resolve(spec, ACTIVATIONS, "activation", nn.Module, nn.modules.activation)
    return specs.build(target, (), arguments, "activation")

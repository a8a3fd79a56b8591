"""Optimizers by name: short names, any class of `torch.optim`, or any class path."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from lit_models.parts import specs
from lit_models.parts.muon import Muon
from lit_models.parts.specs import Spec

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = MappingProxyType(
    {
        "sgd": torch.optim.SGD,
        "momentum": partial(torch.optim.SGD, momentum=0.9),
        "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "adagrad": torch.optim.Adagrad,
        "adadelta": torch.optim.Adadelta,
        "muon": Muon,
        # Without a line search, LBFGS with its default learning rate of 1 diverges unless the loss is quadratic.
        "lbfgs": partial(torch.optim.LBFGS, line_search_fn="strong_wolfe"),
    }
)

#: Default of every model; in flat form, because jsonargparse would import a short name given as class path.
DEFAULT_OPTIMIZER: dict[str, Any] = {"name": "adam", "lr": 0.001}

#: Optimizers with a fused implementation, which reads each weight only once; torch's default on CPUs is another.
_FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad)


def build_optimizer(spec: Spec, parameters: Iterable[nn.Parameter], fused: bool = False) -> torch.optim.Optimizer:
    """Return the optimizer that `spec` names for the parameters.

    `fused` selects torch's fused implementation if there is one and the spec does not choose another.
    """
    target, arguments = specs.resolve(spec, OPTIMIZERS, "optimizer", torch.optim.Optimizer, torch.optim, supplied=1)
    chosen = {"fused", "foreach", "differentiable", "capturable"} & {k for k, v in arguments.items() if v is not None}
    if fused and not chosen and getattr(target, "func", target) in _FUSED:
        arguments = {**arguments, "fused": True}
    return specs.build(target, (list(parameters),), arguments, "optimizer")


def known_optimizer(spec: Any) -> torch.optim.Optimizer | None:
    """Return the optimizer for one example weight if it belongs to litlab or torch, else None without importing it."""
    try:
        name = str(specs.as_spec(spec, "optimizer")["class_path"])
        is_known = name.lower() in OPTIMIZERS or hasattr(torch.optim, name.removeprefix("torch.optim."))
        return check_optimizer(spec) if is_known else None
    except MisconfigurationException:
        return None


def check_optimizer(spec: Spec) -> torch.optim.Optimizer:
    """Return the optimizer for one example weight; raise an error if its name or an argument is wrong."""
    return build_optimizer(spec, [nn.Parameter(torch.zeros(1, 1))])

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

OPTIMIZERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
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
        # Without a line search LBFGS at its learning rate of 1 diverges on anything but a quadratic bowl.
        "lbfgs": partial(torch.optim.LBFGS, line_search_fn="strong_wolfe"),
    }
)

#: Default of every model. Flat, because jsonargparse tries to import a short name that stands alone as a class path.
DEFAULT_OPTIMIZER: dict[str, Any] = {"name": "adam", "lr": 0.001}


#: One pass over each weight instead of several; on a CPU torch chooses it for nobody.
_FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad)


def build_optimizer(spec: Spec, parameters: Iterable[nn.Parameter], fused: bool = False) -> torch.optim.Optimizer:
    """The optimizer that `spec` names, over the parameters that are trained.

    `fused` asks for torch's fused implementation where there is one and the spec does not choose another.
    """
    target, settings = specs.resolve(spec, OPTIMIZERS, "optimizer", torch.optim.Optimizer, torch.optim, supplied=1)
    chosen = {"fused", "foreach", "differentiable", "capturable"} & {k for k, v in settings.items() if v is not None}
    if fused and not chosen and getattr(target, "func", target) in _FUSED:
        settings = {**settings, "fused": True}
    optimizer: torch.optim.Optimizer = specs.build(target, (list(parameters),), settings, "optimizer")
    return optimizer


def known_optimizer(spec: Any) -> torch.optim.Optimizer | None:
    """A spare one of what a spec names, if that is litlab's or torch's; what is elsewhere is not imported."""
    try:
        name = str(specs.as_spec(spec, "optimizer")["class_path"])
        is_known = name.lower() in OPTIMIZERS or hasattr(torch.optim, name.removeprefix("torch.optim."))
        return check_optimizer(spec) if is_known else None
    except MisconfigurationException:
        return None


def check_optimizer(spec: Spec) -> torch.optim.Optimizer:
    """Find a wrong name or value (a negative learning rate) now, by building the optimizer on one spare weight."""
    return build_optimizer(spec, [nn.Parameter(torch.zeros(1, 1))])

"""Checks of an optimizer's state in a checkpoint against the optimizer that is to continue with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from torch.optim import Optimizer

# State of torch's optimizers: tensors with the shape of the parameter, and single numbers.
_TENSORS = frozenset((
    "acc_delta", "ax", "exp_avg", "exp_avg_sq", "exp_inf", "grad_avg", "max_exp_avg_sq", "momentum_buffer", "prev",
    "square_avg", "step_size", "sum",
))  # fmt: skip
_NUMBERS = frozenset(("eta", "mu", "mu_product", "step"))


def parameters_of(optimizer: Optimizer, module: LightningModule) -> list[list[str]]:
    """Return each parameter of each parameter group, in the optimizer's order: `net.0.weight 128x64`."""
    names = {id(parameter): name.replace("_orig_mod.", "") for name, parameter in module.named_parameters()}
    groups = [group["params"] for group in optimizer.param_groups]
    return [[f"{names.get(id(p), '?')} {'x'.join(map(str, p.shape)) or 'scalar'}" for p in group] for group in groups]


def check_state(optimizer: Optimizer, saved: Mapping[str, Any], there: Any, here: list[list[str]], name: str) -> None:
    """Raise an error that names the first value of a saved state that does not fit the optimizer.

    `there` and `here` are the parameters of the checkpoint (None if it does not contain them) and of the optimizer.
    Torch does not compare them. Its fused optimizers write beyond the end of a tensor of another shape.
    """
    groups, states = saved.get("param_groups"), saved.get("state")
    if not isinstance(states, Mapping) or not _are_groups(groups):
        raise _error(name, "has no `state` and `param_groups`")
    assert isinstance(groups, list)
    sizes = [[len(group["params"]) for group in groups], [len(group) for group in here]]
    if sizes[0] != sizes[1]:
        raise _error(name, f"has parameter groups of {sizes[0]} parameters, and the optimizer has {sizes[1]}")
    if there is not None and there != here:
        raise _error(name, f"belongs to other parameters: {_difference(there, here)}")
    known = any(cls.__module__.startswith(("torch.optim", "lit_models.")) for cls in _own_classes(optimizer))
    for group, ours, labels in zip(groups, optimizer.param_groups, here, strict=True):
        found = [states.get(number, {}) for number in group["params"]]
        keys = {key for state in found if isinstance(state, Mapping) for key in state} & (_TENSORS | _NUMBERS)
        for state, parameter, label in zip(found, ours["params"], labels, strict=True):
            if not isinstance(state, Mapping) or (known and state and keys - state.keys()):
                raise _error(name, f"is incomplete: that of {label} is {list(state)}")
            for key in state if known else ():
                if problem := _problem(key, state[key], parameter):
                    raise _error(name, f"does not fit: `{key}` of {label} {problem}")


def _are_groups(groups: Any) -> bool:
    return isinstance(groups, list) and all(
        isinstance(group, Mapping) and isinstance(group.get("params"), list) for group in groups
    )


def _own_classes(optimizer: Optimizer) -> tuple[type, ...]:
    """Return the optimizer's class and its bases that have a rule of their own, without the base class of all."""
    return tuple(cls for cls in type(optimizer).__mro__ if cls is not Optimizer)


def _difference(there: Any, here: list[list[str]]) -> str:
    """Return the first parameter that is another one in the checkpoint, as text."""
    theirs, ours = ([str(each) for group in groups for each in group] for groups in (there, here))
    pairs = enumerate(zip(theirs, ours, strict=False))
    return next((f"number {i} is {old} there and {new} here" for i, (old, new) in pairs if old != new), "other groups")


def _problem(key: str, value: Any, parameter: torch.Tensor) -> str:
    """Return why a value cannot be the state of a parameter, "" if it can."""
    if key in _NUMBERS:
        is_number = isinstance(value, (int, float)) or (isinstance(value, torch.Tensor) and value.dim() == 0)
        return "" if is_number and 0 <= float(value) < float("inf") else f"is {value!r}"
    if key not in _TENSORS or value is None:
        return ""
    if not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
        shape = list(value.shape) if isinstance(value, torch.Tensor) else value
        return f"is {shape} there, and the parameter is {list(parameter.shape)}"
    kinds = [(each.is_floating_point(), each.is_complex()) for each in (value, parameter)]
    return "" if kinds[0] == kinds[1] else f"is {value.dtype} there, and the parameter is {parameter.dtype}"


def _error(name: str, problem: str) -> MisconfigurationException:
    return MisconfigurationException(
        f"checkpoint: `{name}` {problem}. Use the model and the optimizer that the checkpoint was trained with, or "
        "start a new run."
    )

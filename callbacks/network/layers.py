"""Layers by the names that people read, and what flows through them."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

T = TypeVar("T")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
RECURRENT = (nn.RNNBase,)
# What a bend in the network is: only there can a unit be dead.
CUTTING = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold)


def readable_name(name: str) -> str:
    """`net.layer1.0.conv1` -> `layer1.0.conv1`; what torch.compile puts before it goes too."""
    return name.replace("_orig_mod.", "").removeprefix("net.")


def by_readable_name(named: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Values by readable name; where two would have the same one, both keep what stands before it."""
    pairs = [(name.replace("_orig_mod.", ""), value) for name, value in named]
    number = Counter(readable_name(name) for name, _ in pairs)
    return {readable_name(name) if number[readable_name(name)] == 1 else name: value for name, value in pairs}


def named_layers(module: LightningModule) -> dict[str, nn.Module]:
    """All modules of the network by their readable names, in the order in which they were made.

    The network is `net` where there is one, else all of the module but its metrics and losses.
    """
    net = getattr(module, "net", None)
    if isinstance(net, nn.Module):
        return by_readable_name((f"net.{name}", child) for name, child in net.named_modules() if name)
    measures = [
        child for child in module.children() if isinstance(child, (Metric, MetricCollection)) or _is_loss(child)
    ]
    hidden = {id(inner) for measure in measures for inner in measure.modules()}
    return by_readable_name((name, child) for name, child in module.named_modules() if name and id(child) not in hidden)


def _is_loss(module: nn.Module) -> bool:
    return type(module).__module__ == nn.MSELoss.__module__


def chosen_layers(
    owner: str, module: LightningModule, wanted: Sequence[str] | None, kinds: Sequence[tuple[type[nn.Module], ...]]
) -> dict[str, nn.Module]:
    """The layers that `wanted` names; without it those of the first of `kinds` that the network has.

    A name that the network lacks is told with the nearest one, and left out.
    """
    layers = named_layers(module)
    if wanted is None:
        for kind in kinds:
            found = {name: layer for name, layer in layers.items() if isinstance(layer, kind)}
            if found:
                return found
        rank_zero_warn(f"{owner}: the network has no layer of the kinds that it shows; name some by `layers`.")
        return {}
    chosen = {}
    for name in map(readable_name, wanted):
        if name in layers:
            chosen[name] = layers[name]
            continue
        near = difflib.get_close_matches(name, layers, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]}?" if near else f" There are: {', '.join(list(layers)[:20])}."
        rank_zero_warn(f"{owner}: the network has no layer {name!r}; it is left out.{hint}")
    return chosen


@contextmanager
def captured(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """What the layers put out during the block; the hooks go when it ends, whatever happens.

    A layer that is used several times appears as `relu`, `relu#2` and so on.
    """
    outputs: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def keeper(name: str) -> Callable[..., Any]:
        def keep(_: nn.Module, __: Any, output: Any) -> Any:
            tensor = first_tensor(output)
            if tensor is not None:
                calls[name] += 1
                outputs[name if calls[name] == 1 else f"{name}#{calls[name]}"] = tensor
            return output.clone() if isinstance(output, Tensor) else None  # what follows may work in place

        return keep

    handles = [layer.register_forward_hook(keeper(name)) for name, layer in layers.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(output: Any) -> Tensor | None:
    """A layer's output, or the first of several (an LSTM's outputs come before its states)."""
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None

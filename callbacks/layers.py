"""Layers by the names that people read, and what flows through them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
RECURRENT = (nn.RNNBase,)
# What a bend in the network is: only there can a unit be dead.
CUTTING = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold)


def readable_name(name: str) -> str:
    """`net.layer1.0.conv1` -> `layer1.0.conv1`; what torch.compile puts before it goes too."""
    return name.replace("_orig_mod.", "").removeprefix("net.")


def named_layers(module: LightningModule) -> dict[str, nn.Module]:
    """All modules within the network by their readable names, in the order in which they were made."""
    found = {readable_name(name): child for name, child in module.named_modules() if name}
    return {name: child for name, child in found.items() if name != "net"}


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
    """What the layers put out during the block; the hooks go when it ends, whatever happens."""
    outputs: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[..., Any]:
        def keep(_: nn.Module, __: Any, output: Any) -> Any:
            tensor = first_tensor(output)
            if tensor is not None:
                outputs[name] = tensor
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

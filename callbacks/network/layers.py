"""Layers of a network by readable name, and capture of their outputs."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

T = TypeVar("T")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
RECURRENT = (nn.RNNBase,)
# Activation functions with zero gradient at their lowest output: their units can be dead.
RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold)


def readable_name(name: str) -> str:
    """Return a name without the prefixes of torch.compile and `net`: `net.layer1.0.conv1` -> `layer1.0.conv1`."""
    return name.replace("_orig_mod.", "").removeprefix("net.")


def by_readable_name(named: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Return the values by readable name; names that would be equal retain the prefix `net`."""
    pairs = [(name.replace("_orig_mod.", ""), value) for name, value in named]
    count = Counter(readable_name(name) for name, _ in pairs)
    return {readable_name(name) if count[readable_name(name)] == 1 else name: value for name, value in pairs}


def named_layers(module: LightningModule) -> dict[str, nn.Module]:
    """Return all submodules of the network by readable name, in the order of their creation.

    The network is `module.net` if it exists, else the module without its metrics and losses.
    """
    net = getattr(module, "net", None)
    if isinstance(net, nn.Module):
        return by_readable_name((f"net.{name}", child) for name, child in net.named_modules() if name)
    children = [child for child in module.children() if is_metric_or_loss(child)]
    hidden = {id(inner) for child in children for inner in child.modules()}
    return by_readable_name((name, child) for name, child in module.named_modules() if name and id(child) not in hidden)


def is_metric_or_loss(module: nn.Module) -> bool:
    """Return True for metrics of torchmetrics and losses of torch, which are not layers of the network."""
    return isinstance(module, (Metric, MetricCollection)) or type(module).__module__ == nn.MSELoss.__module__


def select_layers(
    owner: str,
    module: LightningModule,
    names: Sequence[str] | str | None,
    kinds: Sequence[tuple[type[nn.Module], ...]],
) -> dict[str, nn.Module]:
    """Return the layers with these names, or if None those of the first of `kinds` that the network has.

    An unknown name is skipped, with a warning that suggests the closest one.
    """
    layers = named_layers(module)
    if names is None:
        for kind in kinds:
            chosen = {name: layer for name, layer in layers.items() if isinstance(layer, kind)}
            if chosen:
                return chosen
        rank_zero_warn(f"{owner}: the network has no layer of the default kinds. Name layers in its arguments.")
        return {}
    chosen = {}
    for name in map(readable_name, [names] if isinstance(names, str) else names):
        if name in layers:
            chosen[name] = layers[name]
            continue
        close = difflib.get_close_matches(name, layers, n=1, cutoff=0.4)
        hint = f" Did you mean {close[0]}?" if close else f" Set one of {', '.join(list(layers)[:20])}."
        rank_zero_warn(f"{owner}: the network has no layer {name!r}; skipping it.{hint}")
    return chosen


@contextmanager
def capture_outputs(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that collects the outputs of the layers within the block.

    If a layer is called several times, its outputs are named `relu`, `relu#2` and so on.
    """
    outputs: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def hook_for(name: str) -> Callable[..., Any]:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            tensor = first_tensor(output)
            if tensor is not None:
                calls[name] += 1
                outputs[name if calls[name] == 1 else f"{name}#{calls[name]}"] = tensor
            return output.clone() if isinstance(output, Tensor) else None  # the next layer may change it in place

        return hook

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(hook_for(name)))
        yield outputs


def first_tensor(output: Any) -> Tensor | None:
    """Return a layer's output, or the first of several, such as an LSTM's outputs before its states."""
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None

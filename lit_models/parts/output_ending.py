"""The last function of a network, which may return probabilities instead of logits."""

from typing import Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lit_models.parts.exact_metric import exact

Ending = Literal["sigmoid", "softmax", "linear"]

#: Names in torch's graph. The last layer of most networks is linear: its outputs are no probabilities.
_FUNCTIONS: dict[str, Ending] = {
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    **dict.fromkeys(("Add", "Addmm", "Bmm", "Convolution", "Linear", "Mm"), "linear"),
}
#: Functions that only change the shape or type of their input.
_SAME_VALUES = frozenset(
    (
        *("Alias", "Clone", "Expand", "Permute", "ReshapeAlias", "Select", "Slice", "Squeeze", "T", "ToCopy"),
        *("Transpose", "UnsafeView", "Unsqueeze", "View"),
    )
)


def ending_of(module: LightningModule) -> Ending | None:
    """Return the last function of the module's output; None if it is another one, or the module has no example input.

    The graph that torch records for the backward pass has it, for modules and functions alike. The evaluation changes
    neither buffers nor random numbers.
    """
    example = module.example_input_array
    if not isinstance(example, Tensor):
        return None
    modes = {part: part.training for part in module.modules()}
    devices = [module.device] if module.device.type == "cuda" else []
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.random.fork_rng(devices=devices),
            torch.compiler.set_stance("force_eager"),
        ):
            x = example.clone().to(module.device)
            if x.is_floating_point():
                x = x.to(module.dtype).requires_grad_()
            output = module.eval()(x)
    except Exception:  # a network may need other inputs; training then reports what is wrong
        return None
    finally:
        for part, mode in modes.items():
            part.training = mode
    return _last_function(output) if isinstance(output, Tensor) else None


def _last_function(output: Tensor) -> Ending | None:
    node = output.grad_fn
    while node is not None:
        name = node.name().partition("Backward")[0]
        if name not in _SAME_VALUES:
            return _FUNCTIONS.get(name)
        node = node.next_functions[0][0]
    return None


def logits_of(output: Tensor, ending: Ending) -> Tensor:
    """Return finite logits of the given probabilities; several sigmoid outputs are divided by their sum.

    Logarithms are at least -100, as in torch's BCELoss.
    """
    values = exact(output)
    logits = values.log().clamp(min=-100)
    if ending == "sigmoid" and output.shape[1] == 1:
        logits = logits - (-values).log1p().clamp(min=-100)
    return logits

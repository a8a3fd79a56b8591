"""Muon: orthogonal updates for filters and hidden matrices (Keller Jordan 2024, kellerjordan.github.io/posts/muon)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

#: Coefficients of the iteration's odd polynomial a x + b x^3 + c x^5: as steep as possible at 0 (Jordan 2024).
POLYNOMIAL = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Tensor, steps: int = 3) -> Tensor:
    """Return approximately the orthogonal factor U V^T of `matrix`, with singular values of about 0.7 to 1.2.

    Use a Newton-Schulz iteration in bfloat16, which is precise enough (Jordan 2024). One step multiplies small singular
    values by 3.4, so that after a few steps those below 1% of the matrix's norm are still below 1.
    """
    a, b, c = POLYNOMIAL
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * (square @ square)) @ x
    result: Tensor = (x if wide else x.T).to(matrix.dtype)
    return result


class Muon(torch.optim.Optimizer):
    """Muon for hidden matrices and filters (one row each), SGD with Nesterov momentum for all other parameters.

    SGD trains the last matrix, which is the output layer, and biases and normalization. Up to three parameter groups
    have their own learning rates; learning rate schedules by short name preserve their ratios. SGD trains a group that
    is added later unless it has `orthogonal=True`.

    Args:
        params: the parameters, in the order of the layers.
        lr: learning rate of filters and hidden matrices; with `unit_length` the relative change of a matrix per step.
        head_lr: learning rate of the output layer.
        bias_lr: learning rate of biases and normalization; None means `head_lr`.
        momentum: momentum of filters and hidden matrices.
        sgd_momentum: momentum of all other parameters.
        weight_decay: L2 penalty on the parameters that SGD trains; with `unit_length` the others need none.
        unit_length: rescale each matrix to norm sqrt(rows) before its step. This does not change the output of a layer
            that normalization follows; turn it off for other networks.
        steps: iterations of `orthogonalize`.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.16,
        head_lr: float = 1.5,
        bias_lr: float | None = None,
        momentum: float = 0.6,
        sgd_momentum: float = 0.85,
        weight_decay: float = 0.0,
        unit_length: bool = True,
        steps: int = 3,
    ) -> None:
        bias_lr = head_lr if bias_lr is None else bias_lr
        for name, value in {"lr": lr, "head_lr": head_lr, "bias_lr": bias_lr, "weight_decay": weight_decay}.items():
            if not value >= 0.0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        for name, value in {"momentum": momentum, "sgd_momentum": sgd_momentum}.items():
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name} must be at least 0 and below 1, got {value}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        parameters = list(params)
        matrices = [p for p in parameters if p.dim() >= 2]
        head = next((p for p in reversed(parameters) if p.dim() == 2), None)
        sgd = {"orthogonal": False, "momentum": sgd_momentum, "weight_decay": weight_decay}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in matrices if p is not head], "lr": lr, "orthogonal": True},
            {"params": [] if head is None else [head], "lr": head_lr, **sgd},
            {"params": [p for p in parameters if p.dim() < 2], "lr": bias_lr, **sgd},
        ]
        groups[0] |= {"momentum": momentum, "weight_decay": 0.0}
        defaults = {**sgd, "lr": head_lr, "unit_length": unit_length, "steps": steps}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one optimizer step; `closure` computes the loss and the gradients again."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if group["weight_decay"] > 0.0:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum_buffer"]
        momentum.mul_(group["momentum"]).add_(gradient)
        update = gradient.add(momentum, alpha=group["momentum"])  # Nesterov momentum
        if group["orthogonal"]:
            rows = parameter.shape[0]
            update = orthogonalize(update.reshape(rows, -1), group["steps"]).reshape(parameter.shape)
            if group["unit_length"]:
                # An orthogonal update has norm sqrt(rows) as well, so that lr is the relative change.
                parameter.mul_(rows**0.5 / parameter.norm().clamp(min=1e-12))
        parameter.add_(update, alpha=-group["lr"])

"""The short timing behind an automatic precision: training steps of a copy of the model, float32 against bf16."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

_BUDGET_S = 1.0
_PAIRS = (2, 15)  # at least and at most
_STEP_S = 0.1  # what one float32 step of the timing should take
_FIRST_BATCH = 8

Step = Callable[[], None]


def speed_up(model: LightningModule, sample: Tensor, batch_size: int, channels_last: bool) -> float:
    """How many times faster a forward and backward pass is in bf16 autocast than in float32, on the CPU.

    `sample` is one input (1, ...) of the model; random batches are made of it. Processor time of one thread is
    compared, which other programs hardly change, so that a busy machine decides as an idle one does. A large batch is
    cut to what takes some 100 ms. Neither the model nor any random state is touched.
    """
    threads = torch.get_num_threads()
    try:
        with isolate_rng(include_cuda=False):
            torch.set_num_threads(1)
            return _compare(model, sample, batch_size, channels_last)
    finally:
        torch.set_num_threads(threads)


def _compare(model: LightningModule, sample: Tensor, batch_size: int, channels_last: bool) -> float:
    plain = copy.deepcopy(model).train()
    inputs = _batch(sample, min(_FIRST_BATCH, batch_size))
    for _ in range(2):  # a few samples say too little about the cost of many
        step = _step(plain, inputs, bf16=False)
        step()
        fitting = int(len(inputs) * _STEP_S / max(_seconds(step), 1e-6))
        inputs = _batch(sample, max(len(inputs), min(batch_size, fitting)))
    fast, fast_inputs = copy.deepcopy(plain), inputs
    if channels_last:
        fast = fast.to(memory_format=torch.channels_last)
        if inputs.dim() == 4:
            fast_inputs = inputs.contiguous(memory_format=torch.channels_last)
    return ratio(_step(plain, inputs, bf16=False), _step(fast, fast_inputs, bf16=True))


def ratio(slow: Step, fast: Step, seconds: Callable[[Step], float] | None = None) -> float:
    """Time of `slow` over that of `fast`: both run in turns, the least of each counts."""
    measure = seconds or _seconds
    for step in (slow, fast):
        measure(step)  # the first one builds kernels
    taken: tuple[list[float], list[float]] = ([], [])
    while len(taken[0]) < _PAIRS[0] or (len(taken[0]) < _PAIRS[1] and sum(map(sum, taken)) < _BUDGET_S):
        for step, times in zip((slow, fast), taken, strict=True):
            times.append(measure(step))
    return min(taken[0]) / max(min(taken[1]), 1e-9)


def _seconds(step: Step) -> float:
    start = time.thread_time()
    step()
    return time.thread_time() - start


def _batch(sample: Tensor, size: int) -> Tensor:
    """Random numbers in the sample's shape; whole numbers, being indices, are taken as they stand."""
    shape = (size, *sample.shape[1:])
    return torch.randn(shape) if sample.is_floating_point() else sample.expand(shape).contiguous()


def _step(model: nn.Module, inputs: Tensor, bf16: bool) -> Step:
    def run() -> None:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = _first(model(inputs))
        torch.autograd.backward(output.float().square().mean())

    return run


def _first(output: Any) -> Tensor:
    while isinstance(output, (tuple, list)):
        output = output[0]
    if not isinstance(output, Tensor):
        raise TypeError(f"the model gives {type(output).__name__}, no tensor")
    return output

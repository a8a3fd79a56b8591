"""Precision, memory layout and number of threads, chosen by a fixed rule; docs/command-line.md describes it.

An explicit option always wins. A run writes its choice into environment.json, where the other commands read it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.machine import hardware
from experiments.machine.performance_options import PerformanceOptions
from experiments.machine.processes import broadcast_from_first

# Multiplications in the forward pass of a batch (`hardware.multiplications`) up to which bf16 is no faster. Speed of
# bf16 over float32, forward pass to optimizer step, two threads of an AMD EPYC with AVX512-BF16 and no AMX:
# 66 M (LeNet, batch 32) 0.98; 89 M (LSTM 64, batch 128) 0.96; 104 M (MLP 512, batch 256) 1.41; 295 M (LSTM 128) 1.26.
_SMALL = 100_000_000
_ONE_THREAD = 4_000_000  # up to which a second thread makes a dense network slower, such as softmax regression
_SCORING_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true")


@dataclass(frozen=True)
class Choice:
    """The settings of one run; `precision` None leaves the precision to the Trainer's own arguments."""

    precision: str | None
    channels_last: bool
    threads: int
    reason: str = ""  # of the precision

    def text(self, precision: str) -> str:
        """Return threads, the Trainer's precision and memory layout as the line `device` shows them."""
        reason = f" ({self.reason})" if self.precision is not None and self.reason else ""
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return ", ".join([threads, f"precision {precision}{reason}", *["channels-last"] * self.channels_last])


def choose(
    model: LightningModule, data: LightningDataModule, options: Mapping[str, Any], performance: PerformanceOptions
) -> Choice:
    """Return the choice for a fit, the same in all processes; `options` are the Trainer's arguments as given."""

    def decide() -> str:
        precision, layout, reason = _precision(model, data, options, performance)
        return json.dumps(asdict(Choice(precision, layout, _threads(model, data, options, performance), reason)))

    return Choice(**json.loads(broadcast_from_first("machine_choice", decide)))


def bf16_gains(kind: str | None, full_precision: bool, multiplications: int, fast: tuple[str, ...]) -> tuple[bool, str]:
    """Return whether bf16-mixed makes a network faster, and the reason.

    `fast` holds what shows that the device is fast at bfloat16, see `hardware.fast_bfloat16`.
    """
    if kind is None:
        return False, "the model sets no machine_kind"
    if full_precision:
        return False, "the model needs full precision"
    if multiplications <= _SMALL:
        return False, "small network"
    return (True, f"fast bfloat16: {', '.join(fast)}") if fast else (False, "no fast bfloat16")


def _precision(
    model: LightningModule, data: LightningDataModule, options: Mapping[str, Any], performance: PerformanceOptions
) -> tuple[str | None, bool, str]:
    kind, given = hardware.kind_of(model), options.get("precision")
    if given is not None or options.get("plugins") is not None:
        precision, reason, half = None, "as given", str(given).startswith(("bf16", "16"))
    else:
        full = bool(getattr(model, "exact", False)) or hardware.uses_lbfgs(model)
        work = hardware.multiplications(model, data, hardware.share_of_batch(data, options))
        half, reason = bf16_gains(kind, full, work, hardware.fast_bfloat16(hardware.device_of(options)))
        precision = "bf16-mixed" if half else "32-true"
    layout = kind == "conv" and half if performance.channels_last is None else performance.channels_last
    return precision, layout, reason


def _threads(
    model: LightningModule, data: LightningDataModule, options: Mapping[str, Any], performance: PerformanceOptions
) -> int:
    """Return --threads, else OMP_NUM_THREADS, else 1 for a tiny dense network, else this process's share of cores."""
    if performance.threads is not None:
        return performance.threads
    present = torch.get_num_threads()
    if _threads_are_set():
        return present
    work = hardware.multiplications(model, data, hardware.share_of_batch(data, options))
    if work <= _ONE_THREAD and hardware.kind_of(model) == "dense" and hardware.device_of(options) == "cpu":
        return 1
    return max(1, min(present, hardware.physical_cores() // hardware.processes(options)))


def _threads_are_set() -> bool:
    """Return True if OMP_NUM_THREADS is set; reject a value that OpenMP would ignore."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    first = value.partition(",")[0].strip()  # a list is for nested loops
    if value and not (first.isdecimal() and int(first)):
        raise MisconfigurationException(
            f"OMP_NUM_THREADS must be a positive integer, got '{value}'. Set it to a number of threads, or unset it."
        )
    return bool(value)


def from_record(record: Mapping[str, Any], options: Mapping[str, Any], performance: PerformanceOptions) -> Choice:
    """Return the choice that a run recorded (`chosen` in environment.json); float32 if `record` is empty."""
    given = options.get("precision") is not None or options.get("plugins") is not None
    layout = bool(record.get("channels_last")) if performance.channels_last is None else performance.channels_last
    present, recorded = torch.get_num_threads(), record.get("threads")
    if performance.threads is not None:
        threads = performance.threads
    else:
        threads = present if _threads_are_set() or not isinstance(recorded, int) else min(recorded, present)
    precision = record.get("precision")
    precision = precision if precision in _SCORING_PRECISIONS else "32-true"
    return Choice(None if given else precision, layout, threads, "as recorded")


def set_memory_layout(choice: Choice, model: LightningModule) -> None:
    """Change the memory format of the model; dataloaders follow its attribute `channels_last`."""
    if choice.channels_last:
        model.to(memory_format=torch.channels_last)
        model.channels_last = True  # type: ignore[assignment]
    elif getattr(model, "channels_last", False):  # from an earlier fit of the same object
        model.to(memory_format=torch.contiguous_format)
        model.channels_last = False  # type: ignore[assignment]


@contextmanager
def thread_settings(choice: Choice, processes: int = 1) -> Iterator[None]:
    """Use the chosen number of threads, also in processes that Lightning starts in this context.

    Without a GPU, set CUDA_VISIBLE_DEVICES to an empty value, unless the user has set it.
    """
    before, variables = torch.get_num_threads(), {}
    if processes > 1:
        variables["OMP_NUM_THREADS"] = str(choice.threads)
    if torch.version.cuda and not torch.cuda.is_available():
        # At every step Adam asks if there is a GPU, and under Lightning torch then searches for the driver library:
        # 0.1 to 0.4 ms, as long as the step of a small network. The empty value avoids the search.
        variables["CUDA_VISIBLE_DEVICES"] = ""
    variables = {name: value for name, value in variables.items() if name not in os.environ}
    try:
        torch.set_num_threads(choice.threads)
        os.environ.update(variables)
        yield
    finally:
        torch.set_num_threads(before)
        for name in variables:
            os.environ.pop(name, None)

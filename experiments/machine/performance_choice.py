"""The rule that chooses precision, memory layout and number of threads; docs/command-line.md describes it.

An option that the user sets overrides the rule. A run stores its choice in environment.json for the other commands.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.machine import hardware
from experiments.machine.performance_options import MOST_THREADS, PerformanceOptions
from experiments.machine.processes import broadcast_from_first
from experiments.messages.formatting import count

# bf16 is not faster up to this number of multiplications in the forward pass of a batch (`hardware.multiplications`).
# Speed relative to float32, forward pass to optimizer step, two threads of an AMD EPYC with AVX512-BF16 and no AMX:
# 66 M (LeNet, batch 32) 0.98; 89 M (LSTM 64, batch 128) 0.96; 104 M (MLP 512, batch 256) 1.41; 295 M (LSTM 128) 1.26.
_SMALL = 100_000_000
_ONE_THREAD = 4_000_000  # up to this number, a second thread makes a dense network (softmax regression) slower
_SCORING_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true")


@dataclass(frozen=True)
class PerformanceChoice:
    """Precision, memory layout and threads of a run; `precision` None keeps the Trainer's own precision."""

    precision: str | None
    channels_last: bool
    threads: int
    reason: str = ""  # for the precision

    def as_record(self) -> dict[str, Any]:
        """Return the entries of `chosen` in environment.json; the precision is missing if the user chose it."""
        precision = {} if self.precision is None else {"precision": self.precision}
        return {
            **precision,
            "precision_reason": self.reason,
            "channels_last": self.channels_last,
            "threads": self.threads,
        }

    def text(self, precision: str) -> str:
        """Return threads, the Trainer's precision and the memory layout as the line `device` prints them."""
        reason = f" ({self.reason})" if self.precision is not None and self.reason else ""
        threads = count(self.threads, "thread")
        return ", ".join([threads, f"precision {precision}{reason}", *["channels-last"] * self.channels_last])


def choose(
    model: LightningModule, data: LightningDataModule, options: Mapping[str, Any], performance: PerformanceOptions
) -> PerformanceChoice:
    """Return the choice for a new run, the same in all processes; `options` are the Trainer arguments of the user."""

    def decide() -> str:
        kind, device = hardware.kind_of(model), hardware.device_of(options)
        work = hardware.multiplications(model, data, hardware.samples_per_forward(data, options))
        precision: str | None = None
        if _sets_precision(options):
            half, reason = str(options.get("precision")).startswith(("bf16", "16")), "as given"
        else:
            full = bool(getattr(model, "exact", False)) or hardware.uses_lbfgs(model)
            half, reason = bf16_gains(kind, full, work, hardware.fast_bfloat16(device))
            precision = "bf16-mixed" if half else "32-true"
        layout = kind == "conv" and half if performance.channels_last is None else performance.channels_last
        tiny = work <= _ONE_THREAD and kind == "dense" and device == "cpu"
        share = hardware.physical_cores() // hardware.processes(options)
        threads = _threads(performance, 1 if tiny else max(1, min(torch.get_num_threads(), share)))
        return json.dumps(asdict(PerformanceChoice(precision, layout, threads, reason)))

    return PerformanceChoice(**json.loads(broadcast_from_first("machine_choice", decide)))


def bf16_gains(kind: str | None, full_precision: bool, multiplications: int, fast: tuple[str, ...]) -> tuple[bool, str]:
    """Return True if bf16-mixed makes a network faster, and the reason; `fast` is from `hardware.fast_bfloat16`."""
    if kind is None:
        return False, "the model sets no machine_kind"
    if full_precision:
        return False, "the model needs full precision"
    if multiplications <= _SMALL:
        return False, "small network"
    return (True, f"fast bfloat16: {', '.join(fast)}") if fast else (False, "no fast bfloat16")


def _sets_precision(options: Mapping[str, Any]) -> bool:
    return options.get("precision") is not None or options.get("plugins") is not None


def _threads(performance: PerformanceOptions, chosen: int) -> int:
    """Return --threads, else OMP_NUM_THREADS, else `chosen`; reject a value that OpenMP would ignore."""
    if performance.threads is not None:
        return performance.threads
    value = os.environ.get("OMP_NUM_THREADS", "")
    first = value.partition(",")[0].strip()  # a list is for nested loops
    if value and not (first.isdecimal() and 0 < int(first) <= MOST_THREADS):
        raise MisconfigurationException(
            f"OMP_NUM_THREADS must be a positive integer, got '{value}', and at most {MOST_THREADS:,}. Set it to a "
            "number of threads, or unset it."
        )
    return torch.get_num_threads() if value else chosen


def from_record(
    record: Mapping[str, Any], options: Mapping[str, Any], performance: PerformanceOptions
) -> PerformanceChoice:
    """Return the choice that a run stored (`chosen` in environment.json); float32 if `record` is empty."""
    layout = bool(record.get("channels_last")) if performance.channels_last is None else performance.channels_last
    present, recorded = torch.get_num_threads(), record.get("threads")
    threads = _threads(performance, min(recorded, present) if isinstance(recorded, int) else present)
    precision = record.get("precision")
    precision = precision if precision in _SCORING_PRECISIONS else "32-true"
    return PerformanceChoice(None if _sets_precision(options) else precision, layout, threads, "as recorded")


def as_trained(
    record: Mapping[str, Any],
    model: LightningModule,
    data: LightningDataModule,
    options: Mapping[str, Any],
    performance: PerformanceOptions,
) -> PerformanceChoice:
    """Return the choice of a run that continues or is repeated; choose again only if it recorded none.

    Its number of threads counts also if OMP_NUM_THREADS is another one, because it changes the rounding.
    """
    if not record:
        return choose(model, data, options, performance)
    choice, threads = from_record(record, options, performance), record.get("threads")
    return replace(choice, threads=threads) if performance.threads is None and isinstance(threads, int) else choice


def set_memory_layout(choice: PerformanceChoice, model: LightningModule) -> None:
    """Change the memory format of the model; dataloaders follow its attribute `channels_last`."""
    if choice.channels_last or getattr(model, "channels_last", False):  # True from an earlier run of the same object
        model.to(memory_format=torch.channels_last if choice.channels_last else torch.contiguous_format)
        model.channels_last = choice.channels_last  # type: ignore[assignment]


@contextmanager
def thread_settings(choice: PerformanceChoice, processes: int = 1) -> Iterator[None]:
    """Use the chosen number of threads, also in processes that Lightning starts in this context.

    Without a GPU, set CUDA_VISIBLE_DEVICES to an empty value, unless the user has set it.
    """
    before, variables = torch.get_num_threads(), {}
    if processes > 1:
        variables["OMP_NUM_THREADS"] = str(choice.threads)
    if torch.version.cuda and not torch.cuda.is_available():
        # Adam checks for a GPU at every optimizer step, and under Lightning torch then searches for the driver library.
        # This takes 0.1 to 0.4 ms, as long as an optimizer step of a small network. An empty value avoids the search.
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

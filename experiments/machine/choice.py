"""Precision, memory layout and threads chosen for the machine and the kind of model; docs/command-line.md has the rule.

A flag, a config or Python always wins. What had to be timed is kept (`machine_kept.py`), so no choice flips between
runs; each run writes its own into environment.json, where validate, test and predict read it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from experiments.machine import hardware
from experiments.machine.bf16_timing import speed_up
from experiments.machine.decision_cache import decide_once, key_of
from experiments.machine.processes import hand_on
from experiments.runs.folder import read_environment

RULE = 1  # of the rule below: another number has every machine decide anew
CLEARLY = 1.3  # times faster that bf16 must be; the optimizer, which is not timed, takes its share of the gain
_TINY = 64_000_000  # multiplications a step of a dense network up to which bf16 gains nothing (MLP 256-128, batch 256)
_ONE_THREAD = 4_000_000  # and up to which a second thread costs more than it does (softmax regression, the demo)
_SCORED_IN = ("32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true")

Probe = Callable[[LightningModule, Tensor, int, bool], float]
Ruling = Literal["float32", "bf16", "time it"]


@dataclass(frozen=True)
class Wishes:
    """What the user asked for; None is left to the rule."""

    channels_last: bool | None = None
    threads: int | None = None
    compile: bool = False
    steps_per_call: int = 1

    def __post_init__(self) -> None:
        for name, value in (("threads", self.threads), ("steps_per_call", self.steps_per_call)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise MisconfigurationException(f"{name}: {value!r} is not possible; give 1 or more.")


@dataclass(frozen=True)
class Choice:
    """What one run uses; `precision` None leaves it to the Trainer's own arguments."""

    precision: str | None
    channels_last: bool
    threads: int
    reason: str = ""
    speed_up: float | None = None  # of bf16 over float32, where it was timed

    def words(self, precision: str) -> str:
        """Threads, precision and layout as the line `device` shows them."""
        timed = f"{self.speed_up:.1f} x float32 here" if self.speed_up is not None else ""
        if timed and self.precision == "32-true":
            timed = f"bf16-mixed would be {timed}"
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return ", ".join(
            [threads, f"precision {precision}{f' ({timed})' if timed else ''}", *["channels-last"] * self.channels_last]
        )


def choose(
    model: LightningModule,
    data: LightningDataModule,
    options: Mapping[str, Any],
    wishes: Wishes,
    probe: Probe = speed_up,
) -> Choice:
    """The choice for a fit; `options` are the Trainer's arguments as given. All processes take the first one's."""

    def decide() -> str:
        precision, layout, reason, gain = _precision(model, data, options, wishes, probe)
        return json.dumps(asdict(Choice(precision, layout, _threads(model, data, options, wishes), reason, gain)))

    return Choice(**json.loads(hand_on("machine_choice", decide)))


def rule(device: str, flags: tuple[str, ...] | None, kind: str | None, exact: bool, tiny: bool) -> tuple[Ruling, str]:
    """What the facts alone decide, and why. `flags` are the CPU's, or the GPU's compute capability in `fast_flags`."""
    if kind is None:
        return "float32", "the model states no machine_kind"
    if exact:
        return "float32", "exact"
    if tiny:
        return "float32", "tiny net"
    if device == "cuda" and flags:
        return "bf16", "fast bfloat16"
    if device != "cpu" or flags == ():
        return "float32", "no fast bfloat16"
    return "time it", "timed"


def fast_flags(device: str) -> tuple[str, ...] | None:
    """What tells of fast bfloat16 on a device: empty for none, None where it is not known."""
    if device == "cuda":
        capable = torch.cuda.get_device_capability()[0] >= 8 and torch.cuda.is_bf16_supported()
        return ("bf16",) if capable else ()
    return hardware.bf16_flags() if device == "cpu" else ()


def _precision(
    model: LightningModule, data: LightningDataModule, options: Mapping[str, Any], wishes: Wishes, probe: Probe
) -> tuple[str | None, bool, str, float | None]:
    kind = hardware.kind_of(model)
    given = options.get("precision")
    if given is not None or options.get("plugins") is not None:
        half = str(given).startswith(("bf16", "16"))
        layout = kind == "conv" and half if wishes.channels_last is None else wishes.channels_last
        return None, layout, "as asked", None
    device = hardware.device_of(options)
    flags = fast_flags(device)
    batch = hardware.share_of_batch(data, options)
    exact = bool(getattr(model, "exact", False)) or hardware.uses_lbfgs(model)
    tiny = kind == "dense" and hardware.work(model, batch) <= _TINY
    ruling, reason = rule(device, flags, kind, exact, tiny)
    layout = kind == "conv" if wishes.channels_last is None else wishes.channels_last
    gain: float | None = None
    sample = hardware.sample_of(model, data) if ruling == "time it" else None
    if ruling == "time it" and sample is not None:
        facts = {
            "rule": RULE,
            "processor": hardware.processor(),
            "flags": flags,
            "torch": str(torch.__version__),
            "model": type(model).__name__,
            "layers": key_of({"layers": hardware.layers(model)}),
            "input": list(sample.shape[1:]),
            "batch": batch,
            "channels_last": layout,
        }
        found = decide_once(facts, lambda: _timed(model, sample, batch, layout, probe))
        gain = found["speed_up"] if isinstance(found.get("speed_up"), (int, float)) else None
        reason = str(found.get("reason", "timed"))
        ruling = "bf16" if gain is not None and gain >= CLEARLY else "float32"
    if ruling == "bf16":
        return "bf16-mixed", layout, reason, gain
    return "32-true", bool(wishes.channels_last), reason, gain


def _timed(model: LightningModule, sample: Tensor, batch: int, layout: bool, probe: Probe) -> dict[str, Any]:
    try:
        gain = probe(model, sample, batch, layout)
    except Exception as error:  # a model that runs only inside a Trainer, or cannot be copied: then as Lightning would
        return {"speed_up": None, "reason": f"could not be timed: {type(error).__name__}"}
    return {"speed_up": round(gain, 2), "reason": "timed"}


def _threads(model: LightningModule, data: LightningDataModule, options: Mapping[str, Any], wishes: Wishes) -> int:
    """As asked; else OMP_NUM_THREADS; else one for a tiny net, else no more than this process' share of the cores."""
    if wishes.threads is not None:
        return wishes.threads
    present = torch.get_num_threads()
    if _threads_are_set():
        return present
    batch = hardware.share_of_batch(data, options)
    dense = hardware.kind_of(model) == "dense"
    if dense and hardware.device_of(options) == "cpu" and hardware.work(model, batch) <= _ONE_THREAD:
        return 1
    return max(1, min(present, hardware.physical_cores() // hardware.processes(options)))


def _threads_are_set() -> bool:
    """Whether OMP_NUM_THREADS says how many; OpenMP itself passes over what is no number."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    first = value.partition(",")[0].strip()  # a list is for nested loops
    if value and not (first.isdecimal() and int(first)):
        raise MisconfigurationException(
            f"OMP_NUM_THREADS: '{value}' is no number of threads. Set the variable to a whole number above 0, or "
            "unset it."
        )
    return bool(value)


def of_run(environment: Path | None, options: Mapping[str, Any], wishes: Wishes) -> Choice:
    """The choice that a run recorded, for scoring its weights; float32 where there is no record."""
    try:
        record = read_environment(environment).get("chosen") or {} if environment is not None else {}
    except (OSError, ValueError):
        record = {}
    given = options.get("precision") is not None or options.get("plugins") is not None
    layout = bool(record.get("channels_last")) if wishes.channels_last is None else wishes.channels_last
    asked = wishes.threads or (None if _threads_are_set() else record.get("threads"))
    present = torch.get_num_threads()
    threads = wishes.threads or min(asked if isinstance(asked, int) else present, present)
    precision = record.get("precision")
    precision = precision if precision in _SCORED_IN else "32-true"
    return Choice(None if given else precision, layout, threads, "as recorded")


def apply(choice: Choice, model: LightningModule) -> None:
    """Lay the model out; the loaders follow its attribute `channels_last`."""
    if choice.channels_last:
        model.to(memory_format=torch.channels_last)
        model.channels_last = True  # type: ignore[assignment]
    elif getattr(model, "channels_last", False):  # left over from an earlier fit of the same object
        model.to(memory_format=torch.contiguous_format)
        model.channels_last = False  # type: ignore[assignment]


@contextmanager
def settings(choice: Choice, processes: int = 1) -> Iterator[None]:
    """Compute with the chosen threads, here and in the processes that Lightning starts meanwhile.

    Without a GPU, torch is told so by an empty CUDA_VISIBLE_DEVICES, unless the user has set it.
    """
    before, handed = torch.get_num_threads(), {}
    if processes > 1:
        handed["OMP_NUM_THREADS"] = str(choice.threads)
    if torch.version.cuda and not torch.cuda.is_available():
        # Adam asks at every step whether there is a GPU, and Lightning has torch look for the driver's library each
        # time: 0.1 to 0.4 ms, as much as a small network's whole step. No device to look for, no search.
        handed["CUDA_VISIBLE_DEVICES"] = ""
    handed = {name: value for name, value in handed.items() if name not in os.environ}
    try:
        torch.set_num_threads(choice.threads)
        os.environ.update(handed)
        yield
    finally:
        torch.set_num_threads(before)
        for name in handed:
            os.environ.pop(name, None)

"""What this machine is and what a run asks of it: the facts that precision, layout and threads are chosen by."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn

from lit_models.parts.specs import as_spec

Device = Literal["cpu", "cuda", "mps", "other"]
_FAST = ("amx_bf16", "avx512_bf16")  # processors that multiply bfloat16 numbers by themselves


@lru_cache
def _cpuinfo() -> tuple[dict[str, str], ...]:
    """One table per logical processor, where the system shows them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    blocks = [[line.partition(":") for line in block.splitlines()] for block in text.strip().split("\n\n")]
    return tuple({name.strip(): value.strip() for name, _, value in block} for block in blocks)


def processor() -> str:
    """The processor's name where the system tells it."""
    name = next((block["model name"] for block in _cpuinfo() if "model name" in block), "")
    return name or platform.processor() or platform.machine()


def bf16_flags() -> tuple[str, ...] | None:
    """The processor's flags of fast bfloat16, an empty tuple where it has none, None where that is not told."""
    flags = next((block["flags"] for block in _cpuinfo() if "flags" in block), None)
    return None if flags is None else tuple(sorted(set(_FAST) & set(flags.split())))


def physical_cores() -> int:
    """Cores that this process may use, twins of hyper-threading counted once, within the share that a container has."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    places = {
        (block.get("physical id"), block.get("core id"))
        for block in _cpuinfo()
        if block.get("processor", "").isdigit() and int(block["processor"]) in allowed and "core id" in block
    }
    return max(1, min(len(places) or len(allowed), _container_share() or len(allowed)))


def _container_share() -> int | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()[:2]
        return None if quota == "max" else ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return None


def device_of(options: Mapping[str, Any]) -> Device:
    """Where a Trainer with these options will train."""
    asked = options.get("accelerator") or "auto"
    name = asked.lower() if isinstance(asked, str) else type(asked).__name__.lower().removesuffix("accelerator")
    if name in ("cpu", "mps"):
        return "cpu" if name == "cpu" else "mps"
    if name not in ("auto", "gpu", "cuda"):
        return "other"
    if name != "cuda" and torch.backends.mps.is_available():
        return "mps"
    return "cuda" if torch.cuda.is_available() else "cpu"


def processes(options: Mapping[str, Any]) -> int:
    """Processes on this machine that a Trainer with these options will use."""
    devices, device = options.get("devices", "auto"), device_of(options)
    text = str(devices)
    everything = max(1, torch.cuda.device_count()) if device == "cuda" else 1
    if isinstance(devices, (list, tuple)):
        return max(1, len(devices))
    if "," in text:
        return max(1, len([part for part in text.split(",") if part.strip()]))
    number = int(text) if text.lstrip("-").isdigit() else everything
    return everything if number == -1 else max(1, number)


def share_of_batch(data: LightningDataModule, options: Mapping[str, Any]) -> int:
    """Samples that one process sees at a time."""
    size = getattr(data, "batch_size", None)
    steps = options.get("accumulate_grad_batches") or 1
    size = size if isinstance(size, int) and size > 0 else 32
    limit = data.split_sizes().get("train", size) if hasattr(data, "split_sizes") else size
    return max(1, min(size, limit or size) // (max(1, steps) * processes(options)))


def sample_of(model: LightningModule, data: LightningDataModule) -> Tensor | None:
    """One input (1, ...) of the model: its example, else zeros in the data's shape; None if neither is known."""
    example = model.example_input_array
    if isinstance(example, Tensor) and example.dim() >= 1:
        return example[:1].detach().cpu()
    shape = getattr(data, "input_shape", None)
    return torch.zeros(1, *shape) if isinstance(shape, (tuple, list)) else None


def kind_of(model: LightningModule) -> str | None:
    """The kind of network that the model states, or that its layers show; None for a model that states none."""
    stated = getattr(model, "machine_kind", None)
    if stated == "dense":
        if any(isinstance(part, nn.Conv2d) for part in model.modules()):
            return "conv"
        if any(isinstance(part, nn.RNNBase) for part in model.modules()):
            return "recurrent"
    return stated


def work(model: LightningModule, batch: int) -> int:
    """Multiplications in a forward pass of a fully connected network: weights times samples."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) * batch


def layers(model: LightningModule) -> list[list[Any]]:
    """The network in plain data: each module's class and the shapes of its own parameters."""
    network = getattr(model, "net", model)
    return [
        [type(part).__name__, *(list(parameter.shape) for parameter in part.parameters(recurse=False))]
        for part in network.modules()
    ]


def uses_lbfgs(model: LightningModule) -> bool:
    """Whether a model of litlab's names LBFGS as its optimizer."""
    spec = getattr(model, "optimizer_spec", None)
    return spec is not None and as_spec(spec, "optimizer")["class_path"].rpartition(".")[2].lower() == "lbfgs"

"""Properties of this machine and of a model, from which precision, memory layout and threads are chosen."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import lru_cache
from math import ceil, prod
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn

from lit_models.parts.specs import as_spec

Device = Literal["cpu", "cuda", "mps", "other"]
_BF16_FLAGS = ("amx_bf16", "avx512_bf16")  # CPU flags of instructions that multiply bfloat16 numbers


@lru_cache
def _cpuinfo() -> tuple[dict[str, str], ...]:
    """Return the fields of /proc/cpuinfo for each logical processor; empty on systems without that file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    blocks = [[line.partition(":") for line in block.splitlines()] for block in text.strip().split("\n\n")]
    return tuple({name.strip(): value.strip() for name, _, value in block} for block in blocks)


def processor() -> str:
    """Return the name of the processor if the system reports it, else its architecture."""
    name = next((block["model name"] for block in _cpuinfo() if "model name" in block), "")
    return name or platform.processor() or platform.machine()


def fast_bfloat16(device: Device) -> tuple[str, ...]:
    """Return the features that make a device fast at bfloat16: flags of the CPU, compute capability of the GPU."""
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return (f"compute capability {major}.{minor}",) if major >= 8 and torch.cuda.is_bf16_supported() else ()
    flags = next((block["flags"] for block in _cpuinfo() if "flags" in block), "").split()
    return tuple(flag for flag in _BF16_FLAGS if flag in flags) if device == "cpu" else ()


def physical_cores() -> int:
    """Return the physical cores that this process may use, at most the CPU quota of its container."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {
        (block.get("physical id"), block.get("core id"))
        for block in _cpuinfo()
        if block.get("processor", "").isdigit() and int(block["processor"]) in allowed and "core id" in block
    }
    return max(1, min(len(cores) or len(allowed), _container_quota() or len(allowed)))


def _container_quota() -> int | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()[:2]
        return None if quota == "max" else ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return None


def device_of(options: Mapping[str, Any]) -> Device:
    """Return the kind of device that a Trainer with these arguments uses."""
    accelerator = options.get("accelerator") or "auto"
    name = accelerator if isinstance(accelerator, str) else type(accelerator).__name__
    name = name.lower().removesuffix("accelerator")
    if name in ("cpu", "mps"):
        return "cpu" if name == "cpu" else "mps"
    if name not in ("auto", "gpu", "cuda"):
        return "other"
    if name != "cuda" and torch.backends.mps.is_available():
        return "mps"
    return "cuda" if torch.cuda.is_available() else "cpu"


def processes(options: Mapping[str, Any]) -> int:
    """Return the number of processes on this node that a Trainer with these arguments uses."""
    devices, device = options.get("devices", "auto"), device_of(options)
    available = max(1, torch.cuda.device_count()) if device == "cuda" else 1
    if isinstance(devices, str) and "," in devices:
        devices = [index for index in devices.split(",") if index.strip()]
    if isinstance(devices, (list, tuple)):
        return max(1, len(devices))
    number = int(devices) if str(devices).lstrip("-").isdigit() else -1
    return available if number == -1 else max(1, number)


def samples_per_forward(data: LightningDataModule, options: Mapping[str, Any]) -> int:
    """Return the number of samples in one forward pass of one process."""
    size = getattr(data, "batch_size", None)
    steps = options.get("accumulate_grad_batches") or 1
    size = size if isinstance(size, int) and size > 0 else 32
    limit = data.split_sizes().get("train", size) if hasattr(data, "split_sizes") else size
    return max(1, min(size, limit or size) // (max(1, steps) * processes(options)))


def kind_of(model: LightningModule) -> str | None:
    """Return `machine_kind`, or None if the model has none; "dense" becomes "conv" or "recurrent" by its layers."""
    kind = getattr(model, "machine_kind", None)
    if kind == "dense":
        if any(isinstance(module, nn.Conv2d) for module in model.modules()):
            return "conv"
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            return "recurrent"
    return kind


def multiplications(model: LightningModule, data: LightningDataModule, batch_size: int) -> int:
    """Return an upper bound on the multiplications in the forward pass of a batch.

    Each weight counts once per sample. A weight of a convolution counts once per pixel of the input instead, and a
    weight of a recurrent network once per time step.
    """
    example = model.example_input_array
    shape = tuple(example.shape[1:] if isinstance(example, Tensor) else getattr(data, "input_shape", None) or ())
    kind, pixels = kind_of(model), prod(shape[1:])
    steps = shape[-2 if len(shape) > 1 else 0] if kind == "recurrent" and shape else 1
    weights = sum(
        parameter.numel() * (pixels if kind == "conv" and parameter.dim() > 2 else steps)
        for parameter in model.parameters()
        if parameter.requires_grad
    )
    return weights * batch_size


def uses_lbfgs(model: LightningModule) -> bool:
    """Return True if the `optimizer_spec` of the model names LBFGS."""
    spec = getattr(model, "optimizer_spec", None)
    return spec is not None and as_spec(spec, "optimizer")["class_path"].rpartition(".")[2].lower() == "lbfgs"

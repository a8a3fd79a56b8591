"""What a run's numbers depend on beside its config: code, versions, hardware, seed and data."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer

from experiments.machine import Choice
from experiments.machine_facts import processor
from experiments.version import VERSION

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "tensorboard", "scikit-learn", "jsonargparse", "numpy")


def versions() -> dict[str, str]:
    """Versions of litlab, Python and the libraries that numbers depend on."""
    found = {"litlab": VERSION, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["torch"] = str(torch.__version__)  # names the build too, such as +cu126
    return found


def hardware() -> dict[str, Any]:
    """Processor, usable cores, threads of torch, and GPUs by name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": cores,
        "torch_threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def git_state(folder: Path | None = None) -> dict[str, Any] | None:
    """Commit of the working folder and whether files differ from it; None outside a repository or without git."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed_files": len(git("status", "--porcelain").splitlines())}
    except (OSError, subprocess.SubprocessError):
        return None


def describe(seed: int, data: LightningDataModule | None) -> dict[str, Any]:
    """The content of environment.json as known before training; `chosen` is added once the Trainer exists."""
    hashes = getattr(data, "hashes", None)
    sizes = getattr(data, "split_sizes", None)
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "seed": seed,
        "git": git_state(),
        "versions": versions(),
        "hardware": hardware(),
        "data": {"sizes": sizes() if callable(sizes) else None, "sha256": hashes() if callable(hashes) else None},
    }


def chosen(trainer: Trainer, choice: Choice) -> dict[str, Any]:
    """What was picked for the machine where the config said `auto` or nothing; scoring the run reads it."""
    return {
        "accelerator": type(trainer.accelerator).__name__,
        "strategy": type(trainer.strategy).__name__,
        "devices": trainer.num_devices,
        "nodes": trainer.num_nodes,
        "precision": str(trainer.precision),
        "precision_reason": choice.reason,
        "bf16_speed_up": choice.speed_up,
        "channels_last": choice.channels_last,
        "threads": choice.threads,
        "max_epochs": trainer.max_epochs,
    }

"""The content of environment.json: code, versions, hardware, seed and data, on which the results depend."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer

from datamodules import LitDataModule
from experiments.machine.hardware import processor
from experiments.machine.performance_choice import PerformanceChoice
from experiments.options.catalog import PACKAGES as OWN_PACKAGES
from experiments.options.catalog import package_folder
from experiments.runs.folder import RunFolder, read_environment
from experiments.version import VERSION

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "tensorboard", "scikit-learn", "jsonargparse", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of litlab, Python and the libraries that results depend on."""
    found = {"litlab": VERSION, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["torch"] = str(torch.__version__)  # with the build, such as +cu126
    return found


def hardware() -> dict[str, Any]:
    """Return the processor, the usable cores, the threads of torch and the names of the GPUs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": cores,
        "torch_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in gpus],
    }


def git_state(folder: Path | None = None) -> dict[str, Any] | None:
    """Return commit and changes of a folder, by default the working folder; None without a repository or git."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, timeout=10, check=True
        ).stdout.strip()

    try:
        diff = git("diff", "HEAD", "--no-ext-diff", "--full-index")
        return {
            "commit": git("rev-parse", "HEAD").decode(),
            "changed_files": len(git("status", "--porcelain").splitlines()),
            "diff_sha256": hashlib.sha256(diff).hexdigest() if diff else None,
        }
    except (OSError, subprocess.SubprocessError):
        return None


def sources() -> dict[str, str]:
    """Return the SHA-256 of litlab's code and of each module that was imported from the working folder."""
    own = hashlib.sha256()
    packages = [package_folder(name) for name in ("experiments", *OWN_PACKAGES.values())]
    for source in sorted(path for folder in packages for path in folder.rglob("*.py")):
        own.update(source.name.encode() + source.read_bytes())
    found, here = {"litlab": own.hexdigest()}, Path.cwd()
    excluded = (*packages, Path(sysconfig.get_path("stdlib")))
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        path = Path(file) if isinstance(file, str) else None
        if path is None or name == "__main__" or path.suffix != ".py" or not path.is_relative_to(here):
            continue
        if "site-packages" not in path.parts and not any(path.is_relative_to(folder) for folder in excluded):
            with suppress(OSError):
                found[str(path.relative_to(here))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def describe(seed: int, data: LightningDataModule | None) -> dict[str, Any]:
    """Return the content of environment.json before training, without `chosen`."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "seed": seed,
        "git": git_state(),
        "sources": sources(),
        "versions": versions(),
        "hardware": hardware(),
        "data": _describe_data(data),
    }


def _describe_data(data: LightningDataModule | None) -> dict[str, Any]:
    if not isinstance(data, LitDataModule):
        return {"sizes": None, "sha256": None}
    return {"sizes": data.split_sizes(), "sha256": data.hashes(), "properties": data.model_properties()}


def chosen(trainer: Trainer, choice: PerformanceChoice) -> dict[str, Any]:
    """Return the entry `chosen` of environment.json: the arguments that were chosen for this machine."""
    return {
        "accelerator": type(trainer.accelerator).__name__,
        "strategy": type(trainer.strategy).__name__,
        "devices": trainer.num_devices,
        "nodes": trainer.num_nodes,
        **choice.as_record(),
        "precision": str(trainer.precision),
        "max_epochs": trainer.max_epochs,
    }


def read_chosen(folder: RunFolder) -> dict[str, Any]:
    """Return the entry `chosen` of environment.json, empty if the file is missing or corrupted."""
    try:
        return read_environment(folder.environment).get("chosen") or {}
    except (OSError, ValueError):
        return {}

"""Show versions, devices and the data that was found: what a bug report needs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from experiments.runs.find import runs, runs_dir


def add_options(parser: ArgumentParser) -> None:
    """Add nothing: the command takes no options."""


def run(_: Namespace) -> int:
    """Print versions, devices, and the data found."""
    from experiments.runs.environment import hardware, versions

    machine = hardware()
    print("versions")
    for name, version in versions().items():
        print(f"  {name:<13} {version}")
    print("devices")
    print(f"  processor     {machine['processor']}, {machine['cores']} cores, {machine['torch_threads']} torch threads")
    for number, name in enumerate(machine["gpus"]):
        print(f"  GPU {number}         {name}")
    if not machine["gpus"]:
        print("  GPU           none that torch can use")
    print("precision")
    print(f"  bfloat16      {bfloat16_text()}")
    print("data")
    for line in data_found():
        print(f"  {line}")
    print("runs")
    print(f"  {runs_dir()}: {len(runs())}")
    return 0


def bfloat16_text() -> str:
    """Return whether this machine is fast at bfloat16, and which precision `litlab fit` uses because of it."""
    from experiments.machine.hardware import device_of, fast_bfloat16

    fast = ", ".join(fast_bfloat16(device_of({})))
    return f"fast ({fast}): bf16-mixed for larger networks" if fast else "not fast here: 32-true"


def data_found() -> list[str]:
    """Return one line per dataset that needs files: where they are, or that they are missing."""
    from experiments.options.import_paths import import_packages

    import_packages()
    from datamodules import CIFAR10DataModule, FashionMNISTDataModule, MNISTDataModule
    from datamodules.files.find_dataset import dataset_files
    from datamodules.files.paths import cache_root, data_root

    lines = []
    for module in (MNISTDataModule, FashionMNISTDataModule, CIFAR10DataModule):
        files = dataset_files(module.dataset_class)
        root = next((root for root in (data_root(None), cache_root()) if not files.missing(root)), None)
        where = f"found in {root}" if root is not None else f"not in {data_root(None)}; downloaded when asked for"
        lines.append(f"{module.dataset_class.__name__:<13} {where}")
    return [*lines, "digits, text, synthetic: need no files"]

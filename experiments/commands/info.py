"""Show versions, devices and the datasets that were found, for a bug report."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from experiments.runs.find import runs, runs_dir


def add_options(parser: ArgumentParser) -> None:
    """Add no options."""


def run(_: Namespace) -> int:
    """Print versions, devices, data and runs."""
    from experiments.machine.hardware import device_of, fast_bfloat16
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
    fast = ", ".join(fast_bfloat16(device_of({})))
    speed = f"fast ({fast}): bf16-mixed for larger networks" if fast else "not fast here: 32-true"
    print(f"  bfloat16      {speed}")
    print("data")
    for line in _data_lines():
        print(f"  {line}")
    print("runs")
    print(f"  {runs_dir()}: {len(runs())}")
    return 0


def _data_lines() -> list[str]:
    """Return one line per dataset: the folder of its files, or that they are missing or not needed."""
    from experiments.options.import_paths import import_packages

    import_packages()
    from datamodules import CIFAR10DataModule, FashionMNISTDataModule, MNISTDataModule
    from datamodules.files.find_dataset import dataset_files
    from datamodules.files.paths import cache_root, data_root

    lines = []
    for module in (MNISTDataModule, FashionMNISTDataModule, CIFAR10DataModule):
        files = dataset_files(module.dataset_class)
        root = next((root for root in (data_root(None), cache_root()) if not files.missing(root)), None)
        where = (
            f"found in {root}" if root is not None else f"not in {data_root(None)}; litlab downloads it when it is used"
        )
        lines.append(f"{module.dataset_class.__name__:<13} {where}")
    return [*lines, "digits, text, synthetic: need no files"]

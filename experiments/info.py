"""`litlab info`: what a bug report and a new user need to know about this machine."""

from __future__ import annotations

from experiments import catalogue
from experiments.mistake import UserMistake


def main(words: list[str]) -> int:
    """Print versions, devices, and the data found."""
    if words:
        raise UserMistake(f"info: takes nothing, not '{words[0]}'.")
    from experiments.environment import hardware, versions

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
    print("data")
    for line in data_found():
        print(f"  {line}")
    print("runs")
    print(f"  {catalogue.runs_dir()}: {len(catalogue.runs())}")
    return 0


def data_found() -> list[str]:
    """A line per data set of files: where it is, or that it is not; digits, synthetic data and text need none."""
    from experiments.rooms import import_rooms

    import_rooms()
    from datamodules import CIFAR10DataModule, FashionMNISTDataModule, MNISTDataModule
    from datamodules.locate import cache_root, data_root, layout_of

    lines = []
    for module in (MNISTDataModule, FashionMNISTDataModule, CIFAR10DataModule):
        layout = layout_of(module.dataset_class)
        root = next((root for root in (data_root(None), cache_root()) if not layout.missing(root)), None)
        where = f"found in {root}" if root is not None else f"not in {data_root(None)}; downloaded when asked for"
        lines.append(f"{module.dataset_class.__name__:<13} {where}")
    return [*lines, "digits, text, synthetic: need no files"]

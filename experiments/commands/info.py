"""`litlab info`: what a bug report and a new user need to know about this machine."""

from __future__ import annotations

from experiments.messages.errors import UserMistake
from experiments.runs.find import runs, runs_dir


def main(words: list[str]) -> int:
    """Print versions, devices, and the data found."""
    if words:
        raise UserMistake(f"info: takes nothing, not '{words[0]}'.")
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
    for line in kept_decisions():
        print(f"  {line}")
    print("data")
    for line in data_found():
        print(f"  {line}")
    print("runs")
    print(f"  {runs_dir()}: {len(runs())}")
    return 0


def kept_decisions() -> list[str]:
    """A line per kind of model that was timed on this machine: what fits without an explicit precision use."""
    from experiments.machine.choice import CLEARLY
    from experiments.machine.decision_cache import kept_file, read_kept

    try:
        kept = list(read_kept().values())
        shapes = ["x".join(str(size) for size in entry.get("input", [])) for entry in kept]
    except (OSError, ValueError, TypeError, AttributeError):
        return [f"{kept_file()} is damaged; the next fit writes it anew"]
    if not kept:
        return [f"nothing timed yet; the first fit of a larger net does, and keeps it in {kept_file()}"]
    lines = [f"kept in {kept_file()}"]
    for entry, shape in zip(kept, shapes, strict=True):
        gain = entry.get("speed_up")
        fast = isinstance(gain, (int, float)) and gain >= CLEARLY
        timed = f"{gain:.1f} x float32" if isinstance(gain, (int, float)) else str(entry.get("reason", ""))
        precision = "bf16-mixed" if fast else "32-true"
        lines.append(
            f"{precision:<13} {entry.get('model')} on {shape}, batch {entry.get('batch')} (bf16: {timed}; torch "
            f"{entry.get('torch')})"
        )
    return lines


def data_found() -> list[str]:
    """A line per data set of files: where it is, or that it is not; digits, synthetic data and text need none."""
    from experiments.options.import_paths import import_rooms

    import_rooms()
    from datamodules import CIFAR10DataModule, FashionMNISTDataModule, MNISTDataModule
    from datamodules.files.locate import layout_of
    from datamodules.files.places import cache_root, data_root

    lines = []
    for module in (MNISTDataModule, FashionMNISTDataModule, CIFAR10DataModule):
        layout = layout_of(module.dataset_class)
        root = next((root for root in (data_root(None), cache_root()) if not layout.missing(root)), None)
        where = f"found in {root}" if root is not None else f"not in {data_root(None)}; downloaded when asked for"
        lines.append(f"{module.dataset_class.__name__:<13} {where}")
    return [*lines, "digits, text, synthetic: need no files"]

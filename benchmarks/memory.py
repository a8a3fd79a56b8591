"""Peak memory of one `litlab fit` in a separate process; speed.py calls this script.

    python benchmarks/memory.py ARGUMENTS OF LITLAB FIT...

The script prints one line of JSON: the peak memory in MiB above the imports of torch and Lightning, and the size of the
data in MiB.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import lightning.pytorch
import torch


def megabytes(field: str) -> float:
    """Return a field of /proc/self/status in MiB: VmRSS is the current size, VmHWM the peak. Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"memory.py: {field} not found in /proc/self/status. Run this script on Linux.")


class DataSize(lightning.pytorch.Callback):
    """Callback that measures the images and labels of the splits in use, with one byte per pixel."""

    megabytes = 0.0

    def on_train_end(self, trainer: lightning.pytorch.Trainer, pl_module: lightning.pytorch.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        samples = sum(data.split_sizes().values())
        DataSize.megabytes = samples * (math.prod(data.input_shape) + 8) / 2**20


def main() -> None:
    """Run `litlab fit` and print the result."""
    torch.zeros(1).add_(1)
    before = megabytes("VmRSS")
    from experiments.cli import main as litlab

    sys.path.insert(0, str(Path(__file__).parent))
    code = litlab(["fit", *sys.argv[1:], "--trainer.callbacks+=memory.DataSize"])
    import memory  # the module as litlab imported it

    peak = megabytes("VmHWM")
    print(json.dumps({"code": code, "above": peak - before, "before": before, "data": memory.DataSize.megabytes}))


if __name__ == "__main__":
    main()

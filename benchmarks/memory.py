"""Peak memory of one `litlab fit`, in a process of its own; called by speed.py.

    python benchmarks/memory.py WORDS OF LITLAB FIT...

Prints one line of JSON: the highest memory in MiB above what importing torch and Lightning takes, and the MiB of the
data that is held.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import lightning.pytorch
import torch


def megabytes(field: str) -> float:
    """A field of /proc/self/status: VmRSS is now, VmHWM the most so far. Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("memory.py: /proc/self/status does not tell; Linux only.")


class Held(lightning.pytorch.Callback):
    """Bytes of the images and labels of the parts in use, as they lie in the files: a byte a pixel."""

    megabytes = 0.0

    def on_train_end(self, trainer: lightning.pytorch.Trainer, pl_module: lightning.pytorch.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        samples = sum(data.split_sizes().values())
        Held.megabytes = samples * (math.prod(data.input_shape) + 8) / 2**20


def main() -> None:
    """Run the words and report."""
    torch.zeros(1).add_(1)
    before = megabytes("VmRSS")
    from experiments.cli import main as litlab

    sys.path.insert(0, str(Path(__file__).parent))
    code = litlab(["fit", *sys.argv[1:], "--trainer.callbacks+=memory.Held"])
    import memory  # the class as litlab imported it

    peak = megabytes("VmHWM")
    print(json.dumps({"code": code, "above": peak - before, "before": before, "data": memory.Held.megabytes}))


if __name__ == "__main__":
    main()

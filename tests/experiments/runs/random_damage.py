"""Random damage of the checkpoints of one run: what does litlab do with each? Run as a process, which may crash.

    python -m tests.experiments.runs.random_damage NUMBER SEED

Each line of the output is one case before it runs, followed by its fault, if any.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

RUN = Path("runs/mlp_digits/0")
CHECKPOINTS = {"resume": RUN / "checkpoints/last.ckpt", "test": RUN / "checkpoints/best.ckpt"}
QUIET = ("--trainer.enable_model_summary=false", "--trainer.enable_progress_bar=false", "--trainer.logger=false")
WORDS = {"resume": ("resume", "mlp_digits", "--trainer.max_epochs=2"), "test": ("test", "mlp_digits")}
FIT = ("fit", "mlp_digits", "--model.scheduler=null", "--model.hidden=[4]", "--data.train_fraction=0.05",
       "--trainer.max_epochs=1", "--trainer.limit_val_batches=1", *QUIET)  # fmt: skip


def flipped(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data)) if rng.random() < 0.7 else len(data) - 1 - rng.randrange(3000)
    for index in range(at, min(at + rng.choice((1, 1, 8, 64)), len(data))):
        data[index] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def appended(data: bytearray, rng: random.Random) -> None:
    data.extend(rng.randbytes(rng.choice((1, 22, 5000))))


def zeroed(data: bytearray, rng: random.Random) -> None:
    at, size = rng.randrange(len(data)), rng.choice((16, 512, 4096))
    data[at : at + size] = bytes(len(data[at : at + size]))


def removed(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 64, 4096))]


def moved(data: bytearray, rng: random.Random) -> None:
    first, second = (rng.randrange(len(data) - 512) for _ in range(2))
    data[first : first + 512], data[second : second + 512] = data[second : second + 512], data[first : first + 512]


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of every value in dictionaries and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items)[:50]:
        yield tree, key
        yield from places(value)


def other_value(value: Any, rng: random.Random) -> Any:
    """Return a value of another kind, shape, type or size."""
    if isinstance(value, torch.Tensor):
        floating = value.clone() if value.is_floating_point() else value.float()
        choices: list[Any] = [torch.zeros(3), value.reshape(-1)[:1], value.flatten().repeat(2), value.to(torch.int8)]
        choices += [value.double() + 1, torch.full_like(floating, float("nan")), floating * 1e30, value.T, 3, None]
        return rng.choice(choices)
    if isinstance(value, bool):
        return rng.choice((not value, "true", -1))
    if isinstance(value, (int, float)):
        return rng.choice((-1, 2**40, 2**70, 1e300, float("nan"), "3", None, [value], value + 1))
    if isinstance(value, (dict, list, tuple)):
        return rng.choice((type(value)(), None, 3, "text"))
    return rng.choice(("other", 3, None, {}))


def changed_value(content: Any, rng: random.Random) -> str:
    container, key = rng.choice(list(places(content)))
    container[key] = other_value(container[key], rng)
    return str(key)


def removed_value(content: Any, rng: random.Random) -> str:
    container, key = rng.choice(list(places(content)))
    del container[key]
    return str(key)


def swapped_tensors(content: Any, rng: random.Random) -> str:
    tensors = [place for place in places(content) if isinstance(place[0][place[1]], torch.Tensor)]
    (first, one), (second, two) = rng.sample(tensors, 2)
    first[one], second[two] = second[two], first[one]
    return f"{one}, {two}"


ON_BYTES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flipped, flipped, flipped, cut, appended, zeroed, removed, moved,
)  # fmt: skip
ON_VALUES: tuple[Callable[[Any, random.Random], str], ...] = (
    changed_value, changed_value, changed_value, removed_value, swapped_tensors,
)  # fmt: skip


def damage(path: Path, rng: random.Random) -> str:
    """Damage a checkpoint and return how."""
    if rng.random() < 0.5:
        data, on_bytes = bytearray(path.read_bytes()), rng.choice(ON_BYTES)
        on_bytes(data, rng)
        path.write_bytes(data)
        return on_bytes.__name__
    content, on_values = torch.load(path, weights_only=True), rng.choice(ON_VALUES)
    where = on_values(content, rng)
    torch.save(content, path)
    return f"{on_values.__name__} {where}"


def outcome(command: str) -> tuple[int, str, Any]:
    """Return exit code, what was printed, and the final weights or the metrics."""
    from experiments.cli import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = main(list(WORDS[command]))
    for name in [name for name in os.environ if name.startswith("LITLAB_HANDED_")]:
        del os.environ[name]
    if code:
        return code, printed.getvalue(), None
    if command == "test":
        return code, printed.getvalue(), json.loads((RUN / "results.json").read_text())[-1]["metrics"]
    weights = torch.load(CHECKPOINTS["resume"], weights_only=True)["state_dict"]
    return code, printed.getvalue(), {name: value.tolist() for name, value in weights.items()}


def fault(command: str, expected: Any) -> str:
    """Return what is wrong with the outcome of a command on a damaged checkpoint, "" if nothing is."""
    code, printed, found = outcome(command)
    if "Traceback" in printed or code not in (0, 2):
        return f"exit code {code}: {printed[-1500:]}"
    if code == 0 and found != expected:
        return f"other values: {printed[-300:]}"
    return "" if code == 0 or "checkpoint: " in printed else f"no word of the checkpoint: {printed[-500:]}"


def main(number: int, seed: int) -> int:
    """Damage checkpoints `number` times; return the number of faults."""
    from experiments.cli import main as litlab

    rng, faults, codes = random.Random(seed), 0, 0
    assert litlab(list(FIT)) == 0
    shutil.copytree("runs", "whole")
    expected = {}
    for command in WORDS:
        expected[command] = outcome(command)[2]
        assert expected[command]
        restore()
    for index in range(number):
        command = rng.choice(list(WORDS))
        how = damage(CHECKPOINTS[command], rng)
        print(f"case {index}: {command} after {how}", flush=True)
        if found := fault(command, expected[command]):
            faults += 1
            print(f"FAULT in case {index}: {found}", flush=True)
        codes += not found
        restore()
    print(f"{codes} of {number} cases without a fault")
    return min(faults, 100)


def restore() -> None:
    """Put the undamaged run back."""
    shutil.rmtree("runs")
    shutil.copytree("whole", "runs")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))

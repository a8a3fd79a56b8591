"""Kills runs at random moments, lets them go on, and compares their final weights with those of unbroken runs.

    python benchmarks/crash.py                  50 x kill -9, 10 x SIGTERM, 10 x Ctrl-C, 30 kills while saving
    python benchmarks/crash.py --kills 6 --signals 2 --saves 2      fewer
    python benchmarks/crash.py --break random   leaves the random states out on purpose: the comparison must fail
    python benchmarks/crash.py --break place    leaves the loader's place out on purpose: the comparison must fail

Six kinds of models with Dropout, BatchNorm, momentum and augmentation, on scikit-learn's digits and on made-up data.
A kill hits start-up, steps, validation and saving in turn; the child tells its phase through a file, and a checkpoint
being written shows as `*.part`. For the kills while saving a preloaded library slows every write of the child (needs a
C compiler).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
PHASES = ("start-up", "step", "validation", "saving")
EPOCHS = "--trainer.max_epochs=4"
IMAGES = ("--data=DigitsDataModule", "--data.augment=[{name: shift, size: 1}]", "--data.val_split=200", EPOCHS)
DIED = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}  # exit codes by signal
_TRIES = 5

# Six kinds: name of the config, and what makes it small and hard to resume.
KINDS: tuple[tuple[str, ...], ...] = (
    ("mlp_digits", EPOCHS, "--model.dropout=0.3", "--model.batch_norm=true"),
    ("cnn_mnist", *IMAGES, "--model.dropout=0.3", "--model.scheduler=null"),
    ("resnet_fashion_mnist", *IMAGES, "--model.widths=[4,8]", "--model.blocks=[1,1]", "--model.optimizer=momentum"),
    ("lstm_mnist", *IMAGES, "--model.hidden=16", "--model.layers=2", "--model.dropout=0.3"),
    (
        "linear_noisy",
        EPOCHS,
        "--data.val_split=0.2",
        "--model.optimizer=momentum",
        "--model.optimizer.lr=0.01",
        "--trainer.check_val_every_n_epoch=1",
    ),  # its config validates once in many epochs
    ("logistic_mnist", *IMAGES, "--model.optimizer=adam"),
)
SAVING = (
    "--save_every_steps=5",
    "--trainer.enable_progress_bar=false",
    "--trainer.callbacks+=benchmarks.phases.Phases",
)

SLOW = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
ssize_t write(int fd, const void *from, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (fd > 2) usleep(2000);
    return real(fd, from, size > 4096 ? 4096 : size);
}
int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    usleep(20000);
    return real(fd);
}
"""


@dataclass
class Hit:
    """What one kill did."""

    kind: str
    phase: str
    code: int
    equal: bool
    words: str = ""


class Workshop:
    """A folder for the runs, and the final weights of each kind's unbroken run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slow = folder / "slow.so"
        self.whole: dict[str, dict[str, torch.Tensor]] = {}

    def command(self, *words: str) -> list[str]:
        """A litlab command line."""
        return [sys.executable, "-m", "experiments", *words]

    def environment(self, runs: Path, **more: str) -> dict[str, str]:
        """Runs below `runs`, one thread, the phase in a file beside them."""
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        own = {"PYTHONPATH": path, "LITLAB_RUNS_DIR": str(runs), "OMP_NUM_THREADS": "1"}
        return {**os.environ, **own, "LITLAB_PHASE_FILE": str(runs / "phase"), **more}

    def weights(self, runs: Path, kind: str) -> dict[str, torch.Tensor]:
        """The final weights of the run 0."""
        path = runs / kind / "0" / "checkpoints" / "last.ckpt"
        found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
        return found

    def unbroken(self, words: Sequence[str]) -> None:
        """Train a kind once without a kill."""
        runs = self.folder / f"whole-{words[0]}"
        runs.mkdir()
        done = subprocess.run(
            self.command("fit", *words, *SAVING), env=self.environment(runs), capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{words[0]} fails without a kill: {done.stderr[-600:]}")
        self.whole[words[0]] = self.weights(runs, words[0])

    def hit(self, words: Sequence[str], phase: str, number: int, draw: random.Random, harm: str = "") -> Hit:
        """Start a run, send it a signal in a phase, let it go on, compare."""
        kind = words[0]
        runs = Path(tempfile.mkdtemp(dir=self.folder))
        more = {"LD_PRELOAD": str(self.slow)} if phase == "slow saving" else {}
        child = subprocess.Popen(
            self.command("fit", *words, *SAVING),
            env=self.environment(runs, **more),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        there = _wait_for(child, runs, kind, phase, draw)
        child.send_signal(number)
        code = child.wait()
        result = Hit(kind, phase if there else "missed", code, False)
        folder = runs / kind / "0"
        if folder.is_dir():
            last = folder / "checkpoints" / "last.ckpt"
            if harm and last.is_file():
                _harm(last, harm)
            done = subprocess.run(
                self.command("resume", str(folder)), env=self.environment(runs), capture_output=True, text=True
            )
        else:  # killed before the folder was there: nothing to go on from, the user starts again
            done = subprocess.run(
                self.command("fit", *words, *SAVING), env=self.environment(runs), capture_output=True, text=True
            )
        if done.returncode:
            result.words = done.stderr.strip()[-200:]
        else:
            final, whole = self.weights(runs, kind), self.whole[kind]
            result.equal = all(torch.equal(value, whole[name]) for name, value in final.items())
        shutil.rmtree(runs, ignore_errors=True)
        return result


def _wait_for(child: subprocess.Popen[bytes], runs: Path, kind: str, phase: str, draw: random.Random) -> bool:
    """Until the child is in a phase, and then for a random while; whether it is still in it."""
    checkpoints = runs / kind / "0" / "checkpoints"
    told = runs / "phase"
    skip, seen, before = draw.randrange(12 if phase == "step" else 3), 0, ""
    begun, wait = time.monotonic(), draw.uniform(0.5, 9.0)
    while child.poll() is None:
        if phase == "start-up":
            if time.monotonic() - begun > wait or told.is_file():
                return not told.is_file()
        elif phase.endswith("saving"):
            if any(checkpoints.glob("*.part")):
                seen += 1
                if seen > skip:
                    return True
        else:
            now = told.read_text() if told.is_file() else ""
            seen += now != before and now.startswith(phase)
            before = now
            if seen > skip and now.startswith(phase):
                return True
        time.sleep(0.0005)
    return False


def _harm(path: Path, what: str) -> None:
    """Take something out of a checkpoint that an exact resume needs."""
    content = torch.load(path, weights_only=True)
    if what == "random":
        content.pop("exact_state")
    else:
        (place,) = content["loops"]["fit_loop"]["state_dict"]["combined_loader"]
        place["batch"] = 0
    torch.save(content, path)


def main(words: Sequence[str] | None = None) -> int:
    """Run the kills that are asked for and print the tally; 1 if a comparison failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="times kill -9, over all phases and kinds")
    parser.add_argument("--signals", type=int, default=10, help="times SIGTERM, and as many times Ctrl-C")
    parser.add_argument("--saves", type=int, default=30, help="kills while saving on a slowed file system")
    parser.add_argument("--break", dest="harm", choices=("random", "place"), help="take this out of each checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the tally as JSON")
    options = parser.parse_args(words)
    draw = random.Random(options.seed)
    # Every kind meets every phase: their numbers have a common factor, so the phases move on by one after each round.
    plans = [(PHASES[(i + i // 12) % len(PHASES)], signal.SIGKILL) for i in range(options.kills)]
    plans += [
        (draw.choice(PHASES[1:3]), number) for number in (signal.SIGTERM, signal.SIGINT) for _ in range(options.signals)
    ]
    plans += [("slow saving", signal.SIGKILL)] * options.saves
    hits: list[tuple[signal.Signals, Hit]] = []
    with tempfile.TemporaryDirectory() as place:
        workshop = Workshop(Path(place))
        if options.saves:
            (Path(place) / "slow.c").write_text(SLOW)
            subprocess.run(["cc", "-shared", "-fPIC", "-o", workshop.slow, f"{place}/slow.c", "-ldl"], check=True)
        for kind in KINDS[: max(1, len(plans))]:
            workshop.unbroken(kind)
        for index, (phase, number) in enumerate(plans):
            for _ in range(_TRIES):  # a run may end or go on to its next phase before the signal is there
                hit = workshop.hit(KINDS[index % len(KINDS)], phase, number, draw, options.harm or "")
                if hit.phase != "missed" and hit.code == DIED[number]:
                    break
                print(f"missed: {hit.kind} in {phase}, ended with {hit.code}; again", flush=True)
            hits.append((number, hit))
            name = signal.Signals(number).name
            print(f"{name:<8} {hit.kind:<22} {hit.phase:<12} ended with {hit.code:>4}  "
                  f"{'equal' if hit.equal else 'DIFFERENT ' + hit.words}", flush=True)  # fmt: skip
    return _tally(hits, options)


def _tally(hits: Sequence[tuple[signal.Signals, Hit]], options: argparse.Namespace) -> int:
    table = Counter((signal.Signals(number).name, hit.phase) for number, hit in hits)
    right = Counter((signal.Signals(number).name, hit.phase) for number, hit in hits if hit.equal)
    for (name, phase), number in sorted(table.items()):
        print(f"{name:<8} {phase:<12} {right[name, phase]} of {number} equal")
    wrong_code = sum(hit.code != DIED[number] for number, hit in hits)
    print(f"{sum(hit.equal for _, hit in hits)} of {len(hits)} equal; {wrong_code} did not end by their signal")
    if options.output is not None:
        rows = [{"signal": signal.Signals(number).name, **vars(hit)} for number, hit in hits]
        options.output.write_text(
            json.dumps({"seed": options.seed, "torch": torch.__version__, "hits": rows}, indent=1)
        )
    return 0 if all(hit.equal for _, hit in hits) else 1


if __name__ == "__main__":
    sys.exit(main())

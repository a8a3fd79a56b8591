"""Kill runs at random times, resume them, and compare their final weights with those of uninterrupted runs.

    python benchmarks/crash.py                  50 x kill -9, 10 x SIGTERM, 10 x Ctrl-C, 30 kills while saving
    python benchmarks/crash.py --kills 6 --signals 2 --saves 2      fewer signals
    python benchmarks/crash.py --break random   replace the random states in checkpoints: the comparison must fail
    python benchmarks/crash.py --break place    remove the loader's position from checkpoints: the comparison must fail
    python benchmarks/crash.py --chains 200     200 runs of twelve kinds, killed at chosen calls (chains.py), instead
    python benchmarks/crash.py --chains 24 --break row     remove a row of metrics.csv after each kill: it must fail

The script trains six kinds of models with Dropout, BatchNorm, momentum and augmentation, on scikit-learn's digits and
on synthetic data. The kills hit start-up, steps, validation and saving in turn. The child process reports its phase in
a file, and a checkpoint being written has the suffix `.part`. For the kills while saving, a preloaded library slows
every write of the child, which needs a C compiler.
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
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from benchmarks import chains  # noqa: E402

PHASES = ("start-up", "step", "validation", "saving")
EPOCHS = "--trainer.max_epochs=4"
IMAGES = ("--data=DigitsDataModule", "--data.augment=[{name: shift, size: 1}]", "--data.val_split=200", EPOCHS)
EXIT_CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
_TRIES = 5

# The six kinds: config name, and options that make it small and hard to resume.
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
    ),  # the config validates only every few epochs
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
class Outcome:
    """The outcome of one signal."""

    kind: str
    phase: str
    code: int
    equal: bool
    error: str = ""


class CrashBench:
    """A folder for the runs, and the final weights of an uninterrupted run of each kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slow = folder / "slow.so"
        self.reference: dict[str, dict[str, torch.Tensor]] = {}

    def command(self, *arguments: str) -> list[str]:
        """Return a litlab command line."""
        return [sys.executable, "-m", "experiments", *arguments]

    def environment(self, runs: Path, **more: str) -> dict[str, str]:
        """Return the environment: runs below `runs`, one thread, and a file for the phase."""
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        own = {"PYTHONPATH": path, "LITLAB_RUNS_DIR": str(runs), "OMP_NUM_THREADS": "1"}
        return {**os.environ, **own, "LITLAB_PHASE_FILE": str(runs / "phase"), **more}

    def weights(self, runs: Path, kind: str) -> dict[str, torch.Tensor]:
        """Return the final weights of run 0."""
        path = runs / kind / "0" / "checkpoints" / "last.ckpt"
        found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
        return found

    def train_reference(self, arguments: Sequence[str]) -> None:
        """Train one kind without interruption."""
        runs = self.folder / f"reference-{arguments[0]}"
        runs.mkdir()
        done = subprocess.run(
            self.command("fit", *arguments, *SAVING), env=self.environment(runs), capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{arguments[0]} fails without a kill: {done.stderr[-600:]}")
        self.reference[arguments[0]] = self.weights(runs, arguments[0])

    def interrupt(
        self, arguments: Sequence[str], phase: str, number: int, rng: random.Random, remove: str = ""
    ) -> Outcome:
        """Start a run, send it a signal in a phase, resume it, and compare the final weights."""
        kind = arguments[0]
        runs = Path(tempfile.mkdtemp(dir=self.folder))
        more = {"LD_PRELOAD": str(self.slow)} if phase == "slow saving" else {}
        child = subprocess.Popen(
            self.command("fit", *arguments, *SAVING),
            env=self.environment(runs, **more),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        in_phase = _wait_for(child, runs, kind, phase, rng)
        child.send_signal(number)
        code = child.wait()
        result = Outcome(kind, phase if in_phase else "missed", code, False)
        folder = runs / kind / "0"
        if folder.is_dir():
            last = folder / "checkpoints" / "last.ckpt"
            if remove and last.is_file():
                chains.remove_state(last, remove)
            done = subprocess.run(
                self.command("resume", str(folder)), env=self.environment(runs), capture_output=True, text=True
            )
        else:  # killed before the folder existed: start again
            done = subprocess.run(
                self.command("fit", *arguments, *SAVING), env=self.environment(runs), capture_output=True, text=True
            )
        if done.returncode:
            result.error = done.stderr.strip()[-200:]
        else:
            final, reference = self.weights(runs, kind), self.reference[kind]
            result.equal = all(torch.equal(value, reference[name]) for name, value in final.items())
        shutil.rmtree(runs, ignore_errors=True)
        return result


def _wait_for(child: subprocess.Popen[bytes], runs: Path, kind: str, phase: str, rng: random.Random) -> bool:
    """Wait until the child is in a phase, and then for a random time; return True if it is still in the phase."""
    checkpoints = runs / kind / "0" / "checkpoints"
    phase_file = runs / "phase"
    skip, seen, previous = rng.randrange(12 if phase == "step" else 3), 0, ""
    start, wait = time.monotonic(), rng.uniform(0.5, 9.0)
    while child.poll() is None:
        if phase == "start-up":
            if time.monotonic() - start > wait or phase_file.is_file():
                return not phase_file.is_file()
        elif phase.endswith("saving"):
            if any(checkpoints.glob("*.part")):
                seen += 1
                if seen > skip:
                    return True
        else:
            now = phase_file.read_text() if phase_file.is_file() else ""
            seen += now != previous and now.startswith(phase)
            previous = now
            if seen > skip and now.startswith(phase):
                return True
        time.sleep(0.0005)
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the requested kills and print the summary; return 1 if a comparison failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="number of kill -9, over all phases and kinds")
    parser.add_argument("--signals", type=int, default=10, help="number of SIGTERM, and the same number of Ctrl-C")
    parser.add_argument("--saves", type=int, default=30, help="number of kills while saving with slow writes")
    parser.add_argument(
        "--break", dest="remove", choices=("random", "place", "row"), help="remove this after each kill"
    )
    parser.add_argument("--chains", type=int, default=0, help="number of chains of kills, instead of single signals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the summary as JSON")
    options = parser.parse_args(arguments)
    if options.chains:
        return _run_chains(options)
    if options.remove == "row":
        parser.error("--break row needs --chains")
    rng = random.Random(options.seed)
    # Combine every kind with every phase. Their numbers share a factor, so shift the phases by one after each round.
    plans = [(PHASES[(i + i // 12) % len(PHASES)], signal.SIGKILL) for i in range(options.kills)]
    plans += [
        (rng.choice(PHASES[1:3]), number) for number in (signal.SIGTERM, signal.SIGINT) for _ in range(options.signals)
    ]
    plans += [("slow saving", signal.SIGKILL)] * options.saves
    outcomes: list[tuple[signal.Signals, Outcome]] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = CrashBench(Path(folder))
        if options.saves:
            (Path(folder) / "slow.c").write_text(SLOW)
            subprocess.run(["cc", "-shared", "-fPIC", "-o", bench.slow, f"{folder}/slow.c", "-ldl"], check=True)
        for kind in KINDS[: max(1, len(plans))]:
            bench.train_reference(kind)
        for index, (phase, number) in enumerate(plans):
            for _ in range(_TRIES):  # a run may leave the phase before the signal arrives
                outcome = bench.interrupt(KINDS[index % len(KINDS)], phase, number, rng, options.remove or "")
                if outcome.phase != "missed" and outcome.code == EXIT_CODES[number]:
                    break
                print(f"missed: {outcome.kind} in {phase}, exit code {outcome.code}; trying again", flush=True)
            outcomes.append((number, outcome))
            name = signal.Signals(number).name
            print(f"{name:<8} {outcome.kind:<22} {outcome.phase:<12} exit code {outcome.code:>4}  "
                  f"{'equal' if outcome.equal else 'DIFFERENT ' + outcome.error}", flush=True)  # fmt: skip
    return _summarize(outcomes, options)


def _run_chains(options: argparse.Namespace) -> int:
    total: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for chain in chains.run_chains(Path(folder), options.chains, options.seed, options.remove or ""):
            total[chain.kind] += 1
            equal[chain.kind] += not chain.difference
            kills = ", ".join(map(str, chain.reached))
            result = f"DIFFERENT {chain.difference}" if chain.difference else "equal"
            print(f"{chain.kind:<14} {kills:<60} {result}", flush=True)
            rows.append({"kind": chain.kind, "kills": kills, "difference": chain.difference})
    for kind, number in total.items():
        print(f"{kind:<14} {equal[kind]} of {number} equal")
    print(f"{sum(equal.values())} of {sum(total.values())} equal")
    if options.output is not None:
        content = {"seed": options.seed, "torch": torch.__version__, "chains": rows}
        options.output.write_text(json.dumps(content, indent=1) + "\n")
    return 0 if equal == total else 1


def _summarize(outcomes: Sequence[tuple[signal.Signals, Outcome]], options: argparse.Namespace) -> int:
    total = Counter((signal.Signals(number).name, outcome.phase) for number, outcome in outcomes)
    equal = Counter((signal.Signals(number).name, outcome.phase) for number, outcome in outcomes if outcome.equal)
    for (name, phase), number in sorted(total.items()):
        print(f"{name:<8} {phase:<12} {equal[name, phase]} of {number} equal")
    wrong_code = sum(outcome.code != EXIT_CODES[number] for number, outcome in outcomes)
    print(
        f"{sum(equal.values())} of {len(outcomes)} equal; {wrong_code} with another exit code than that of the signal"
    )
    if options.output is not None:
        rows = [{"signal": signal.Signals(number).name, **vars(outcome)} for number, outcome in outcomes]
        options.output.write_text(
            json.dumps({"seed": options.seed, "torch": torch.__version__, "hits": rows}, indent=1)
        )
    return 0 if all(outcome.equal for _, outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Chains of kills at chosen calls: each run dies one to three times, and must end like an uninterrupted run.

`python benchmarks/crash.py --chains 200` runs them. A chain starts `fit`, ends the process without any cleanup at a
chosen call (before it, after it, or with half of the file written), resumes, perhaps dies again, and so on until the
run is finished. Then these files must be equal to those of an uninterrupted run: the weights of both checkpoints,
metrics.csv, results.json (apart from times and hashes of files) and the names of the figures; no temporary file may
remain. Each process is forked from one that has imported litlab but never started a thread of torch.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import chain_kinds
from benchmarks.run_content import content, first_difference

KILLED, HANGS = 9, 60
MOMENTS = ("before", "after")


@dataclass(frozen=True)
class Site:
    """A function whose calls may be the last of a process; `file` returns the file that half a write leaves behind."""

    module: str
    name: str
    file: Callable[..., Path] | None = None

    @property
    def label(self) -> str:
        """The name of the function without its module."""
        return self.name

    def wrap(self, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace the function in this process."""
        owner: Any = importlib.import_module(self.module)
        *path, last = self.name.split(".")
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, last, wrapper(getattr(owner, last)))


def _unfinished(source: Any, *_: Any) -> Path:
    return Path(source)


def _csv_of(logger: Any, *_: Any) -> Path:
    return Path(logger._path)


SITES = (
    Site("os", "replace", _unfinished),  # every atomic write: checkpoints, JSON files, metrics.csv with a new column
    Site("os", "rename"),
    Site("experiments.runs.folder", "RunFolder.claim"),
    Site("experiments.runs.folder", "RunFolder.add_result"),
    Site("experiments.runs.metrics_csv", "MetricsCSV._write", _csv_of),
    Site("experiments.runs.checkpoint_io", "AtomicCheckpointIO.save_checkpoint"),
    Site("experiments.commands.fit_training", "_finish"),
    Site("experiments.commands.fit_training", "_test"),
    Site("lightning.pytorch", "Trainer.test"),
    Site("lit_models.base.task", "LitTask.training_step"),
    Site("lit_models.base.task", "LitTask.validation_step"),
    Site("lit_models.base.task", "LitTask.test_step"),
    Site("lit_models.base.epoch_metrics", "EpochMetrics.on_train_epoch_end"),
    Site("callbacks.checkpoints.best_checkpoint", "BestCheckpoint.on_train_epoch_end"),
    Site("callbacks.checkpoints.best_checkpoint", "BestCheckpoint.on_train_end"),
    Site("callbacks.checkpoints.last_checkpoint", "LastCheckpoint.on_train_epoch_end"),
    Site("callbacks.predictions.end_figures", "EndFigures.on_train_end"),
)


@dataclass(frozen=True)
class Kill:
    """The end of a process: at the n-th call of a site, counted from 1, before it, after it or in the middle of it."""

    site: Site
    number: int
    moment: str

    def __str__(self) -> str:
        return f"{self.moment} {self.site.label} {self.number}"


@dataclass
class Chain:
    """One run with its kills; `reached` are those that ended a process."""

    kind: str
    kills: tuple[Kill, ...]
    reached: list[Kill] = field(default_factory=list)
    difference: str = ""


def start(arguments: Sequence[str], runs: Path, log: Path, kill: Kill | None = None, counts: Path | None = None) -> int:
    """Run one command in a forked process and return its exit code; with `counts`, write the number of calls there."""
    child = os.fork()
    if not child:
        code = 1
        try:
            code = _child(arguments, runs, log, kill, counts)
        finally:
            os._exit(code)
    end = time.monotonic() + HANGS
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, KILLED)
    os.waitpid(child, 0)
    raise TimeoutError(f"no end after {HANGS} s")


def _child(arguments: Sequence[str], runs: Path, log: Path, kill: Kill | None, counts: Path | None) -> int:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    os.environ |= {"LITLAB_RUNS_DIR": str(runs), "OMP_NUM_THREADS": "1"}
    calls: Counter[str] = Counter()
    for site in SITES:
        if counts is not None or (kill is not None and kill.site == site):
            site.wrap(partial(_counted, site, kill, calls))
    from experiments.cli import main

    code = main(list(arguments))
    if counts is not None:
        counts.write_text(json.dumps(calls))
    return code


def _counted(site: Site, kill: Kill | None, calls: Counter[str], function: Callable[..., Any]) -> Callable[..., Any]:
    own = isinstance(function, type) or getattr(function, "__self__", None) is not None  # a bound class method

    def call(*arguments: Any, **named: Any) -> Any:
        calls[site.label] += 1
        due = kill is not None and calls[site.label] == kill.number
        if due and kill is not None and kill.moment == "before":
            os._exit(KILLED)
        if due and kill is not None and kill.moment == "within" and site.file is not None:
            path = site.file(*arguments, **named)
            before = path.read_bytes() if path.is_file() else b""
            if site.name != "replace":
                function(*arguments, **named)
            if site.name == "replace" or path.read_bytes() != before:
                _cut(path)
            os._exit(KILLED)
        result = function(*arguments, **named)
        if due:
            os._exit(KILLED)
        return result

    return staticmethod(call) if own else call  # type: ignore[return-value]


def _cut(path: Path) -> None:
    """Cut the newest part of a file off: half of a new file, or half of the last line of a table."""
    content = path.read_bytes()
    half = len(content) // 2
    if path.suffix == ".csv":
        half = (content.rstrip(b"\n").rfind(b"\n") + len(content)) // 2
    path.write_bytes(content[:half])


class ChainBench:
    """A folder for the runs, and the files and the number of calls of an uninterrupted run of each kind."""

    def __init__(self, folder: Path, broken: str = "") -> None:
        self.folder, self.broken = folder, broken
        folder.mkdir(parents=True, exist_ok=True)
        self.reference: dict[str, dict[str, Any]] = {}
        self.calls: dict[str, dict[str, int]] = {}
        import_litlab()

    def train_reference(self, kind: str) -> None:
        """Train one kind twice without interruption; both must be equal."""
        counts = self.folder / f"{kind}.json"
        twice = []
        for attempt in range(2):
            runs, log = self.folder / f"reference-{kind}-{attempt}", self.folder / f"{kind}.log"
            if start(chain_kinds.arguments(kind), runs, log, counts=counts):
                raise SystemExit(f"{kind} fails without a kill: {log.read_text()[-2000:]}")
            twice.append(content(runs / kind / "0"))
        if problem := first_difference(*twice):
            raise SystemExit(f"{kind} is not repeatable without a kill: {problem}")
        self.reference[kind], self.calls[kind] = twice[0], json.loads(counts.read_text())

    def draw(self, kind: str, rng: random.Random) -> Chain:
        """Return a chain with one to three kills at random calls of the uninterrupted run."""
        kills = []
        for index in range(rng.choice((1, 1, 2, 3))):
            site = rng.choice([site for site in SITES if self.calls[kind].get(site.label)])
            number = rng.randint(1, max(1, self.calls[kind][site.label] // (index + 1)))
            kills.append(Kill(site, number, rng.choice(MOMENTS if site.file is None else (*MOMENTS, "within"))))
        return Chain(kind, tuple(kills))

    def run(self, chain: Chain, name: str) -> Chain:
        """Run one chain and compare its files."""
        runs, log = self.folder / name, self.folder / f"{name}.log"
        run, code = runs / chain.kind / "0", -1
        try:
            for kill in (*chain.kills, None):
                command = ["resume", str(run)] if run.is_dir() else chain_kinds.arguments(chain.kind)
                code = start(command, runs, log, kill)
                if kill is not None and code == KILLED:
                    chain.reached.append(kill)
                elif code:
                    break
                if code == KILLED and self.broken:
                    break_run(run, self.broken)
            chain.difference = (
                f"exit code {code}: {log.read_text()[-600:]}"
                if code
                else first_difference(content(run), self.reference[chain.kind])
            )
        except (TimeoutError, OSError, ValueError) as error:
            chain.difference = f"{error}: {log.read_text()[-600:]}"
        shutil.rmtree(runs, ignore_errors=True)
        log.unlink(missing_ok=True)
        return chain


def import_litlab() -> None:
    """Import everything that the forked processes need, without a computation by torch."""
    for site in SITES:
        importlib.import_module(site.module)
    for module in (
        "experiments.command_line.exit_codes",
        "experiments.options.import_paths",
        "litlab",
        "sklearn.datasets",
    ):
        importlib.import_module(module)
    from experiments.options.import_paths import import_packages

    import_packages()


def break_run(run: Path, what: str) -> None:
    """Damage a stopped run, to show that the comparison can fail."""
    last, metrics = run / "checkpoints" / "last.ckpt", run / "metrics.csv"
    if what == "row" and metrics.is_file():
        lines = metrics.read_text().splitlines(keepends=True)
        metrics.write_text("".join([*lines[:1], *lines[2:]]))
    elif what != "row" and last.is_file():
        remove_state(last, what)


def remove_state(path: Path, what: str) -> None:
    """Change the random state or the position in the data of a checkpoint, which an exact resume needs."""
    content = torch.load(path, weights_only=True)
    if what == "random":
        for state in content["exact_state"]:
            state["random"]["torch"] = torch.Generator().manual_seed(1).get_state()
    else:
        (position,) = content["loops"]["fit_loop"]["state_dict"]["combined_loader"]
        position["batch"] = 0
    del content["litlab"]["sha256"]  # the content is changed on purpose
    torch.save(content, path)


def run_chains(folder: Path, number: int, seed: int, broken: str = "", kinds: Sequence[str] = ()) -> Iterator[Chain]:
    """Yield finished chains, of the kinds in turn."""
    rng, bench = random.Random(seed), ChainBench(folder, broken)
    names = list(kinds or chain_kinds.KINDS)[: max(1, number)]
    for kind in names:
        bench.train_reference(kind)
    for index in range(number):
        yield bench.run(bench.draw(names[index % len(names)], rng), f"chain-{index}")

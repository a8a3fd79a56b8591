"""Chains of kills: runs that died at a chosen call end like uninterrupted runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import crash

ROOT = Path(__file__).resolve().parents[2]
# The forked processes need a parent in which torch has started no thread, so the chains run in their own process.
SCRIPT = """
import json, sys
from pathlib import Path
from benchmarks.chains import SITES, Chain, ChainBench, Kill

sites = {site.label: site for site in SITES}
bench = ChainBench(Path(sys.argv[1]), sys.argv[3])
found = []
for number, (kind, *kills) in enumerate(json.loads(sys.argv[2])):
    if kind not in bench.reference:
        bench.train_reference(kind)
    chain = Chain(kind, tuple(Kill(sites[name], call, moment) for moment, name, call in kills))
    bench.run(chain, f"chain-{number}")
    found.append([len(chain.reached), chain.difference])
print(json.dumps(found))
"""


def run_chains(folder: Path, chains: list[list[object]], broken: str = "") -> list[list[object]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), json.dumps(chains), broken],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: list[list[object]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_records_of_killed_runs_are_those_of_an_uninterrupted_run(tmp_path: Path) -> None:
    chains: list[list[object]] = [
        # after the checkpoint of an epoch, before its row in metrics.csv
        ["several_steps", ["after", "LastCheckpoint.on_train_epoch_end", 1]],
        # before the folder has its name; while a table is rewritten; after the last step, before the figures
        ["dropout", ["before", "rename", 1], ["before", "replace", 4], ["before", "EndFigures.on_train_end", 1]],
        # before the record of the fit, and after the metrics of the test
        ["dropout", ["before", "_finish", 1], ["after", "Trainer.test", 1]],
        # after a checkpoint within an epoch, before the row of its step
        ["accumulation", ["after", "AtomicCheckpointIO.save_checkpoint", 11], ["before", "_test", 1]],
    ]
    assert run_chains(tmp_path, chains) == [[len(chain) - 1, ""] for chain in chains]


def test_the_comparison_finds_other_random_numbers_and_lost_rows(tmp_path: Path) -> None:
    chain: list[object] = ["dropout", ["after", "LastCheckpoint.on_train_epoch_end", 1]]
    (_, weights), *_ = run_chains(tmp_path / "random", [chain], "random")
    (_, rows), *_ = run_chains(tmp_path / "row", [chain], "row")
    assert "ckpt" in str(weights)
    assert "metrics.csv" in str(rows)


@pytest.mark.slow
def test_chains_of_all_kinds_end_equal(tmp_path: Path) -> None:
    output = tmp_path / "chains.json"
    command = [sys.executable, "benchmarks/crash.py", "--chains", "24", "--seed", "3", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "24 of 24 equal" in done.stdout
    assert len({chain["kind"] for chain in json.loads(output.read_text())["chains"]}) == 12
    with pytest.raises(SystemExit):
        crash.main(["--break", "row", "--kills", "1"])

"""Accuracy and time of the shipped configs: several seeds each, scored on the official test set.

    python benchmarks/accuracy.py                      run what is missing, then write the table
    python benchmarks/accuracy.py mlp_mnist --seeds 5   only this config, five seeds
    python benchmarks/accuracy.py mlp_mnist --again     measure anew: its earlier runs are dropped
    python benchmarks/accuracy.py cifar10_fast --runs runs/cifar10_fast/*   take finished runs
    python benchmarks/accuracy.py --table               only write the table

Every finished run is kept in results/accuracy.json at once: stop with Ctrl-C whenever you like, start again to go on.
The validation part picks the epoch; the test set is scored once, with those weights. Nothing is tuned on it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "accuracy.json"
PAGES = (ROOT / "README.md", ROOT / "docs" / "accuracy.md")
BEGIN, END = "<!-- accuracy: begin -->", "<!-- accuracy: end -->"

FOLDER = (
    "--data=ImageFolderDataModule",
)  # CIFAR-10 as JPEG files: LITLAB_DATA_DIR names the folder of train/ and test/
# config, flags, and the least that we accept, in the unit of the metric shown
Row = tuple[str, tuple[str, ...], float | None]
ROWS: tuple[Row, ...] = (
    ("linear_line", (), None),
    ("linear_noisy", (), None),
    ("logistic_threshold", (), None),
    ("logistic_mnist", (), 92.3),
    ("logistic_fashion_mnist", (), 84.2),
    ("mlp_sine", (), None),
    ("mlp_digits", (), 95.0),
    ("mlp_mnist", (), 98.2),
    ("mlp_fashion_mnist", (), 88.8),
    ("cnn_mnist", ("--trainer.max_epochs=1", "--data.batch_size=64", "--model.dropout=0.25"), 98.9),
    ("cnn_mnist", (), 99.2),
    ("cnn_mnist_fast", (), 99.0),
    ("cnn_fashion_mnist", (), 91.0),
    ("cnn_cifar10", (), None),
    ("resnet_fashion_mnist", (), 91.5),
    ("resnet_fashion_wide", ("--trainer.max_epochs=5", "--data.augment=[]"), 92.8),
    ("resnet_fashion_wide", (), 93.8),
    ("resnet_cifar10", (), None),
    ("cifar10_fast", FOLDER, 90.0),
    ("cnn_image_folder", (), None),
    ("lstm_mnist", ("--trainer.max_epochs=4",), 98.4),
    ("lstm_mnist", (), 98.7),
    ("lstm_fashion_mnist", (), 88.5),
    ("lstm_text", (), None),
)
BY_LOSS = ("lstm_text",)  # nats per character say more than the share of characters guessed
NEEDS_A_GPU_OR_DATA = ("cnn_cifar10", "resnet_cifar10", "cifar10_fast", "cnn_image_folder")  # run when named


def load() -> list[dict[str, Any]]:
    """All finished runs."""
    records: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    return records


def keep(record: dict[str, Any]) -> None:
    """Add one run."""
    with FileLock(f"{RESULTS}.lock"):  # several may run side by side, each on its own configs
        replace_all([*load(), record])


def drop(rows: Sequence[Row]) -> None:
    """Forget the runs of these rows."""
    gone = {(config, flags) for config, flags, _ in rows}
    with FileLock(f"{RESULTS}.lock"):
        replace_all([record for record in load() if (record["config"], tuple(record["flags"])) not in gone])


def replace_all(records: list[dict[str, Any]]) -> None:
    """The file is replaced whole, so that an interruption leaves the old one."""
    aside = RESULTS.with_suffix(".new")
    aside.write_text(json.dumps(records, indent=1) + "\n")
    os.replace(aside, RESULTS)


def measure(config: str, flags: tuple[str, ...], seed: int, threads: int) -> dict[str, Any]:
    """One fit and one test through the command line, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "LITLAB_RUNS_DIR": folder,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        words = ["fit", config, *flags, f"--seed_everything={seed}", "--test_after_fit=true"]
        words += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
        done = subprocess.run(
            [sys.executable, "-m", "experiments", *words], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{config}, seed {seed}: exit code {done.returncode}\n{done.stderr}")
        return record_of(Path(folder) / config / "0", config, flags)


def record_of(run: Path, config: str, flags: tuple[str, ...]) -> dict[str, Any]:
    """What a run folder says about its fit and its test."""
    done = json.loads((run / "results.json").read_text())
    fitted = next(result for result in done if result["verb"] == "fit")
    tested = next(result for result in reversed(done) if result["verb"] == "test")
    facts = json.loads((run / "environment.json").read_text())
    return {
        "config": config,
        "flags": list(flags),
        "seed": facts["seed"],
        "test": tested["metrics"],
        "validation": fitted["metrics"],
        "best_epoch": fitted["epoch"],
        "seconds": fitted["seconds"],
        "threads": facts["chosen"]["threads"],
        "precision": facts["chosen"]["precision"],
        "commit": (facts["git"] or {}).get("commit"),
        "versions": facts["versions"],
        "processor": facts["hardware"]["processor"],
        "data": facts["data"]["sha256"],
        "finished": tested["time"][:10],
    }


def line(row: Row, records: list[dict[str, Any]]) -> str:
    """A line of the table; 'not measured' where there is nothing."""
    config, flags, floor = row
    mine = [record for record in records if record["config"] == config and record["flags"] == list(flags)]
    shown = " ".join(flag.removeprefix("--") for flag in flags)
    least = "" if floor is None else f"{floor:.1f}"
    if not mine:
        return f"| `{config}` | not measured | {least} | | | {shown} |"
    name = "test/acc" if "test/acc" in mine[0]["test"] and config not in BY_LOSS else "test/loss"
    scale, unit = (100, " %") if name == "test/acc" else (1, "")
    values = [record["test"][name] * scale for record in mine]
    digits = ".2f" if name == "test/acc" else ".3g"
    spread = f" ± {statistics.stdev(values):{digits}}" if len(values) > 1 else ""
    seconds = min(record["seconds"] for record in mine)
    took = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    what = "accuracy" if name == "test/acc" else "loss"
    figure = f"{what} {statistics.mean(values):{digits}}{spread}{unit}"
    return f"| `{config}` | {figure} | {least} | {len(values)} | {took} | {shown} |"


def table(records: list[dict[str, Any]]) -> str:
    """The table with what it was measured on."""
    lines = ["| config | official test set | floor | seeds | time | flags |", "|---|---|---|---|---|---|"]
    lines += [line(row, records) for row in ROWS]
    if records:
        last = records[-1]
        versions = ", ".join(f"{name} {last['versions'][name]}" for name in ("torch", "lightning", "python"))
        threads = " or ".join(str(n) for n in sorted({record["threads"] for record in records}))
        lines += [
            "",
            "Mean and standard deviation over seeds (initialisation, order of samples, Dropout; the split stays); "
            f"time of the quickest fit without start-up, on {last['processor']}, {threads} thread(s) of a machine "
            f"under other load; {versions}. Digits and synthetic data have no official test set: theirs is fixed and "
            "documented.",
        ]
    return "\n".join(lines)


def write_tables() -> None:
    """Put the table between the marks of each page."""
    text = table(load())
    for page in PAGES:
        content = page.read_text() if page.is_file() else ""
        if BEGIN in content and END in content:
            before, rest = content.split(BEGIN, 1)
            page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}")
            print(f"written: {page.relative_to(ROOT)}")


def main() -> None:
    """Measure what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", help="default: all that run on a CPU with data at hand")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again", action="store_true", help="drop the earlier runs of these configs first")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="take these finished runs of one config")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    known = list(dict.fromkeys(config for config, _, _ in ROWS))
    unknown = [config for config in options.configs if config not in known]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    chosen = options.configs or [config for config in known if config not in NEEDS_A_GPU_OR_DATA]
    rows = [row for row in ROWS if row[0] in chosen]
    if options.runs and len(rows) != 1:
        parser.error("--runs: name the one config that was trained, of one row")
    if options.again and not options.table:
        drop(rows)
    for run in options.runs:
        keep(record_of(run, rows[0][0], rows[0][1]))
    try:
        for seed in range(0 if options.table or options.runs else options.seeds):
            for config, flags, _ in rows:
                done = {(r["config"], tuple(r["flags"]), r["seed"]) for r in load()}
                if (config, flags, seed) in done:
                    continue
                record = measure(config, flags, seed, options.threads)
                keep(record)
                print(f"{config} seed {seed}: {record['test']} in {record['seconds']} s", flush=True)
    except KeyboardInterrupt:
        print("Stopped; what is finished is kept.")
    write_tables()


if __name__ == "__main__":
    main()

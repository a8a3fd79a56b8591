"""Accuracy and time of the shipped configs on the official test set, over several seeds.

    python benchmarks/accuracy.py                      run the missing configs and seeds, then write the table
    python benchmarks/accuracy.py mlp_mnist --seeds 5   run only this config, with five seeds
    python benchmarks/accuracy.py mlp_mnist --again     delete the earlier results of this config and measure again
    python benchmarks/accuracy.py cifar10_fast --runs runs/cifar10_fast/*   use finished runs
    python benchmarks/accuracy.py --table               only write the table

The script saves every finished run in results/accuracy.json at once. You can stop it with Ctrl-C and start it again to
continue. The validation split selects the epoch. The test set is evaluated once, with the weights of that epoch.
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
)  # CIFAR-10 as JPEG files; LITLAB_DATA_DIR is the folder that contains train/ and test/
# config, options, required minimum in the unit of the metric in the table
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
    ("cnn_cifar10", FOLDER, None),
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
BY_LOSS = ("lstm_text",)  # nats per character are more informative than the accuracy
NOT_MEASURED = {"resnet_cifar10": "needs a GPU"}  # why, by config
NEEDS_A_GPU_OR_DATA = ("cnn_cifar10", "resnet_cifar10", "cifar10_fast", "cnn_image_folder")  # run only if named


def load() -> list[dict[str, Any]]:
    """Return all finished runs."""
    records: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    return records


def add(record: dict[str, Any]) -> None:
    """Add one run to the results file."""
    with FileLock(f"{RESULTS}.lock"):  # several processes may run at once, each with its own configs
        replace_all([*load(), record])


def delete(rows: Sequence[Row]) -> None:
    """Delete the results of these rows."""
    gone = {(config, flags) for config, flags, _ in rows}
    with FileLock(f"{RESULTS}.lock"):
        replace_all([record for record in load() if (record["config"], tuple(record["flags"])) not in gone])


def replace_all(records: list[dict[str, Any]]) -> None:
    """Replace the results file atomically."""
    aside = RESULTS.with_suffix(".new")
    aside.write_text(json.dumps(records, indent=1) + "\n")
    os.replace(aside, RESULTS)


def measure(config: str, flags: tuple[str, ...], seed: int, threads: int) -> dict[str, Any]:
    """Train and test one config through the command line, in a separate process."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "LITLAB_RUNS_DIR": folder,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        arguments = ["fit", config, *flags, f"--seed_everything={seed}", "--test_after_fit=true"]
        arguments += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
        done = subprocess.run(
            [sys.executable, "-m", "experiments", *arguments], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{config}, seed {seed}: exit code {done.returncode}\n{done.stderr}")
        return record_of(Path(folder) / config / "0", config, flags)


def record_of(run: Path, config: str, flags: tuple[str, ...]) -> dict[str, Any]:
    """Return the result of a finished run, read from its folder."""
    done = json.loads((run / "results.json").read_text())
    fitted = next(result for result in done if result["verb"] == "fit")
    tested = next(result for result in reversed(done) if result["verb"] == "test")
    environment = json.loads((run / "environment.json").read_text())
    return {
        "config": config,
        "flags": list(flags),
        "seed": environment["seed"],
        "test": tested["metrics"],
        "validation": fitted["metrics"],
        "best_epoch": fitted["epoch"],
        "seconds": fitted["seconds"],
        "threads": environment["chosen"]["threads"],
        "precision": environment["chosen"]["precision"],
        "commit": (environment["git"] or {}).get("commit"),
        "versions": environment["versions"],
        "processor": environment["hardware"]["processor"],
        "data": environment["data"]["sha256"],
        "finished": tested["time"][:10],
    }


def line(row: Row, records: list[dict[str, Any]]) -> str:
    """Return one row of the table; without results, it contains 'not measured' and the reason."""
    config, flags, floor = row
    mine = [record for record in records if record["config"] == config and record["flags"] == list(flags)]
    shown = " ".join(flag.removeprefix("--") for flag in flags)
    minimum = "" if floor is None else f"{floor:.1f}"
    if not mine:
        reason = NOT_MEASURED.get(config)
        return f"| `{config}` | not measured{f': {reason}' if reason else ''} | {minimum} | | | {shown} |"
    name = "test/acc" if "test/acc" in mine[0]["test"] and config not in BY_LOSS else "test/loss"
    scale, unit = (100, "%") if name == "test/acc" else (1, "")
    values = [record["test"][name] * scale for record in mine]
    digits = ".2f" if name == "test/acc" else ".3g"
    if floor is not None and statistics.mean(values) < floor:
        minimum += " (missed)"
    spread = f" ± {statistics.stdev(values):{digits}}" if len(values) > 1 else ""
    seconds = min(record["seconds"] for record in mine)
    took = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    what = "accuracy" if name == "test/acc" else "loss"
    result = f"{what} {statistics.mean(values):{digits}}{spread}{unit}"
    return f"| `{config}` | {result} | {minimum} | {len(values)} | {took} | {shown} |"


def table(records: list[dict[str, Any]]) -> str:
    """Return the table, followed by the machine and the versions."""
    lines = ["| config | official test set | minimum | seeds | time | options |", "|---|---|---|---|---|---|"]
    lines += [line(row, records) for row in ROWS]
    if records:
        names = ("torch", "lightning", "python")
        machines = dict.fromkeys(
            ", ".join([record["processor"], *(f"{name} {record['versions'][name]}" for name in names)])
            for record in records
        )
        threads = " or ".join(str(n) for n in sorted({record["threads"] for record in records}))
        lines += [
            "",
            "The table shows the mean and standard deviation over seeds. A seed changes the initialization, the order "
            "of samples and Dropout, but not the split. The time is the shortest of these runs, without start-up. The "
            f"runs used {threads} thread{'' if threads == '1' else 's'} of a shared machine ({'; '.join(machines)}). "
            "Digits and synthetic data have no official test set, so litlab uses a fixed one.",
        ]
    return "\n".join(lines)


def write_tables() -> None:
    """Write the table between the markers of each page."""
    text = table(load())
    for page in PAGES:
        content = page.read_text() if page.is_file() else ""
        if BEGIN in content and END in content:
            before, rest = content.split(BEGIN, 1)
            page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}")
            print(f"wrote {page.relative_to(ROOT)}")


def main() -> None:
    """Measure the missing results, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", help="default: all configs that run on a CPU with available data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again", action="store_true", help="delete the earlier results of these configs first")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="use these finished runs of one config")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    known = list(dict.fromkeys(config for config, _, _ in ROWS))
    unknown = [config for config in options.configs if config not in known]
    if unknown:
        parser.error(f"unknown config: {', '.join(unknown)}. Use one of {', '.join(known)}.")
    chosen = options.configs or [config for config in known if config not in NEEDS_A_GPU_OR_DATA]
    rows = [row for row in ROWS if row[0] in chosen]
    if options.runs and len(rows) != 1:
        parser.error("--runs needs exactly one config with one row. Name the config that was trained.")
    if options.again and not options.table:
        delete(rows)
    for run in options.runs:
        add(record_of(run, rows[0][0], rows[0][1]))
    try:
        for seed in range(0 if options.table or options.runs else options.seeds):
            for config, flags, _ in rows:
                done = {(r["config"], tuple(r["flags"]), r["seed"]) for r in load()}
                if (config, flags, seed) in done:
                    continue
                record = measure(config, flags, seed, options.threads)
                add(record)
                print(f"{config} seed {seed}: {record['test']} in {record['seconds']} s", flush=True)
    except KeyboardInterrupt:
        print("Stopped. The finished runs are saved.")
    write_tables()


if __name__ == "__main__":
    main()

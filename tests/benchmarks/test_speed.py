"""The results file, table and command line of the speed benchmark; no test asserts a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import measure, speed, table
from benchmarks.attempts import __main__ as attempts
from benchmarks.measure import Options, Record, Spread, Store, at_least, at_most


def record(value: float, row: str = "C3", what: str = "CNN") -> Record:
    return Record(row, what, Spread.of([value]), at_most(1.03), arms={"raw": Spread.of([1.0])}, reached={"raw": 0.91})


def test_ratios_are_computed_per_pair() -> None:
    found = measure.ratios([2.0, 30.0, 4.0], [1.0, 10.0, 4.0])
    assert (found.median, found.low, found.high) == (2.0, 1.0, 3.0)


def test_a_value_equal_to_the_target_meets_it() -> None:
    assert at_most(1.03).met(1.03)
    assert not at_most(1.03).met(1.031)
    assert at_least(15).met(15)
    assert not at_least(15).met(14.9)


def test_a_newer_value_replaces_the_older_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "results" / "speed.json")
    store.add(record(1.5), Options())
    store.add(record(1.2, what="LSTM"), Options())
    store.add(record(1.0), Options())
    store.add(record(1.1), Options(threads=2))
    assert sorted(stored["figure"]["median"] for stored in store.load().values()) == [1.0, 1.1, 1.2]


def test_the_page_shows_met_missed_and_not_measured(tmp_path: Path) -> None:
    store, page = Store(tmp_path / "speed.json"), tmp_path / "benchmarks.md"
    page.write_text(f"# Speed\n{table.BEGIN}\nold\n{table.END}\nNotes by hand.\n")
    store.add(record(1.0), Options())
    store.add(record(1.2, what="LSTM"), Options())
    for _ in range(2):
        table.write(page, store.load())
    lines = page.read_text().splitlines()
    assert lines[0] == "# Speed"
    assert lines[-1] == "Notes by hand."
    (met,) = [line for line in lines if "| CNN |" in line]
    (missed,) = [line for line in lines if "| LSTM |" in line]
    assert met.endswith("| met |")
    assert missed.endswith("| **missed** |")
    assert "≤ 1.03" in missed
    (rest,) = [line for line in lines if line.startswith("Not measured:")]
    assert "G4" in rest
    assert "C3" not in rest
    assert "old" not in lines


def run(tmp_path: Path, rows: str) -> dict[str, dict[str, object]]:
    results = tmp_path / "speed.json"
    arguments = ["--quick", "--pairs=1", "--threads=1", f"--rows={rows}"]
    before = torch.get_num_threads()
    code = speed.main([*arguments, f"--results={results}", f"--page={tmp_path / 'page.md'}"])
    torch.set_num_threads(before)
    assert code == 0
    stored: dict[str, dict[str, object]] = json.loads(results.read_text())
    return stored


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LITLAB_DATA_DIR", "LITLAB_RUNS_DIR", "LITLAB_RUN_FOLDER", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1" if name == "OMP_NUM_THREADS" else str(tmp_path / name))
    monkeypatch.setenv("LITLAB_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.slow
def test_loader_and_loop_rows_measure_both_arms(tmp_path: Path) -> None:
    stored = run(tmp_path, "C1,C5")
    assert {(entry["row"], tuple(entry["arms"])) for entry in stored.values()} == {  # type: ignore[call-overload]
        ("C1", ("raw", "litlab")),
        ("C5", ("raw", "bare", "litlab")),
        ("C5", ("raw", "litlab")),
    }


@pytest.mark.slow
def test_gpu_rows_run_on_the_cpu(tmp_path: Path) -> None:
    stored = run(tmp_path, "G1,G4,G7")
    assert [entry["row"] for entry in stored.values()] == ["G1", "G4", "G4", "G4", "G7", "G7"]
    assert all(set(entry["arms"]) == {"default", "deterministic"} for entry in stored.values() if entry["row"] == "G7")  # type: ignore[call-overload]
    assert all(set(entry["reached"]) == {"raw", "litlab"} for entry in stored.values() if entry["row"] == "G4")  # type: ignore[call-overload]


def test_without_cuda_the_page_says_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    page = tmp_path / "page.md"
    code = speed.main(["--device=cuda", "--quick", f"--results={tmp_path / 'speed.json'}", f"--page={page}"])
    assert code == 0
    assert "no CUDA device" in capsys.readouterr().out
    assert "Not measured: C1" in page.read_text()


def test_an_unknown_row_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="C99"):
        speed.main(["--rows=C99", f"--results={tmp_path / 'speed.json'}"])


@pytest.mark.slow
def test_attempts_print_one_row_per_arm(capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads()
    assert attempts.main(["--quick", "--rounds=1", "--threads=1"]) == 0
    assert torch.get_num_threads() == before
    printed = capsys.readouterr().out
    for name in attempts.NAMES:
        assert f"\n{name}: " in printed
    arms = ("bf16, channels-last", "a bare Trainer", "16 steps per call", "side by side", "60% of the images")
    assert [arm for arm in arms if arm not in printed] == []


def test_an_unknown_attempt_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        attempts.main(["precison"])
    assert "precison" in capsys.readouterr().err

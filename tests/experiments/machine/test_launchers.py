"""Processes that torchrun or srun started make one run or are rejected, and never become two runs."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments import load_run
from experiments.machine.launchers import Launch, launch_options, launched
from experiments.machine.processes import broadcast_from_first, check_launch
from tests.experiments.conftest import ROOT, Command

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "RANK": "5", "LOCAL_RANK": "1",
}  # fmt: skip
SRUN = {
    "SLURM_STEP_ID": "0", "SLURM_NTASKS": "6", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "3", "SLURM_PROCID": "3",
    "SLURM_LOCALID": "0", "SLURM_JOB_NAME": "train",
}  # fmt: skip


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def _set(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], **more: str) -> None:
    for name, value in {**variables, **more}.items():
        monkeypatch.setenv(name, value)


def test_launchers_are_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched() is None
    with monkeypatch.context() as patch:
        _set(patch, TORCHRUN)
        found = launched()
        assert found == Launch("torchrun", 5, 1, 8, 2)
        assert (found.devices, found.node) == (4, 1)
        patch.setenv("WORLD_SIZE", "1")
        assert launched() is None, "a single process is not a launch"
    _set(monkeypatch, SRUN)
    assert launched() == Launch("srun", 3, 0, 6, 2)
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert launched() is None, "an interactive shell on a node"


def test_options_that_are_not_given_follow_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch_options({"devices": 2}) == {}
    _set(monkeypatch, SRUN)
    whole = {"devices": 3, "num_nodes": 2, "strategy": "ddp"}
    for given in ({}, {"devices": "auto", "num_nodes": 1}, {"devices": -1}, {"devices": [0, 1, 2], "num_nodes": 2}):
        assert launch_options(given) == whole
    assert launch_options({"strategy": "fsdp"}) == {"devices": 3, "num_nodes": 2}
    for name, wrong in (("devices", 6), ("num_nodes", 3), ("devices", [0])):
        sentence = rf"trainer\.{name} must be [23], because srun .*, or set --trainer\.{name} [23]"
        with pytest.raises(MisconfigurationException, match=sentence):
            launch_options({name: wrong})


@pytest.mark.parametrize(
    ("variables", "verb", "sentence"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train"}, "fit", "was not started by srun and would wait"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "fit", "mpirun started 2 processes.*torchrun"),
        ({"LOCAL_RANK": "1"}, "fit", "LOCAL_RANK=1 means .* neither torchrun nor srun.*unset LOCAL_RANK"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "test", "RANK=1 means"),
        (TORCHRUN, "predict", "predict: a single process writes.*without torchrun"),
        (TORCHRUN, "data", "data: a single process writes"),
        ({"TORCHELASTIC_RUN_ID": "x"}, "fit", "variables are incomplete or invalid.*'WORLD_SIZE'"),
        ({**TORCHRUN, "WORLD_SIZE": "two"}, "fit", "variables are incomplete or invalid.*two"),
        ({**TORCHRUN, "WORLD_SIZE": "7"}, "fit", None),
        ({**SRUN, "SLURM_NTASKS": "7"}, "fit", "the same number of processes, got 7 processes on 2 nodes"),
        ({name: SRUN[name] for name in SRUN if "PER" not in name}, "fit", "--ntasks-per-node=3 instead of --ntasks"),
    ],
)
def test_processes_that_would_make_several_runs_are_rejected(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], verb: str, sentence: str | None
) -> None:
    for name in ("LITLAB_HANDED_RUN_FOLDER", "LITLAB_HANDED_MACHINE_CHOICE", "LITLAB_HANDED_PORT"):
        monkeypatch.delenv(name, raising=False)
    _set(monkeypatch, variables)
    if sentence is None:
        check_launch(verb)
        return
    with pytest.raises(MisconfigurationException, match=sentence):
        check_launch(verb)


def test_the_command_line_rejects_them_too(litlab: Command, monkeypatch: pytest.MonkeyPatch, workshop: Path) -> None:
    assert "torchrun or srun" in litlab("fit", "--trainer.num_nodes=2").sentence
    monkeypatch.setenv("LOCAL_RANK", "1")
    result = litlab("fit")
    assert (result.code, "LOCAL_RANK=1" in result.sentence) == (2, True)
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert "variables are incomplete or invalid" in litlab("fit").sentence
    assert "'mlp_digit' is" in litlab("fit", "mlp_digit").sentence
    assert not (workshop / "runs").exists()


def test_the_first_process_passes_a_value_on_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITLAB_HANDED_COLOR", "")  # restored afterwards
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert broadcast_from_first("color", lambda: "red") == "red"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert broadcast_from_first("color", lambda: "green") == "red"


SEEN = """
import os
from lightning.pytorch import Callback

class Seen(Callback):
    "Write the inputs of each training batch into a file per process and epoch, one number per line."
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        with open(f"seen-{trainer.current_epoch}-{trainer.global_rank}", "a") as file:
            file.writelines(f"{float(x):.9g}\\n" for x in batch[0].flatten())

class Fails(Callback):
    "Raise an error in one process."
    def __init__(self, rank: int):
        self.rank = rank
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_rank == self.rank and trainer.global_step == 3:
            raise ValueError("the first error")
"""
LINE = ("linear_line", "--data.num_samples=61", "--data.noise=1", "--data.test_samples=101", "--data.batch_size=8")
BY_TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "experiments")


@pytest.mark.slow
def test_torchrun_makes_one_run_that_uses_every_sample_once(workshop: Path, litlab: Command) -> None:
    (workshop / "watching.py").write_text(SEEN)
    words = ["fit", *LINE, "--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1", "--test_after_fit=true"]
    done = subprocess.run(
        [*BY_TORCHRUN, *words, "--trainer.callbacks+=watching.Seen"],
        cwd=workshop, env=_environment(), capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (workshop / "runs/linear_line").iterdir()] == ["0"], "one run folder"
    assert done.stdout.count("Trained 2 epochs") == 1, "one console"
    assert "batch   8 samples per optimizer step, 4 on each of 2 devices; the same as on one device" in done.stdout
    for epoch in (0, 1):
        shares = [(workshop / f"seen-{epoch}-{rank}").read_text().split() for rank in (0, 1)]
        counted = Counter(shares[0] + shares[1])
        assert len(counted) == 57, "61 samples minus 4 for validation"
        assert set(counted.values()) == {1}, "no sample twice"
        assert abs(len(shares[0]) - len(shares[1])) <= len(shares[0]) // 4 + 1
    with (workshop / "runs/linear_line/0/metrics.csv").open() as file:
        steps = [row["step"] for row in csv.DictReader(file) if row["val/loss"]]
    assert len(steps) == len(set(steps)) == 2
    by_two = load_run("linear_line").results[-1]
    scored = {2: by_two}
    for devices in (1, 3):
        command = [sys.executable, "-m", "experiments", "test", "linear_line", f"--trainer.devices={devices}"]
        strategy = "auto" if devices == 1 else "ddp"
        done = subprocess.run(
            [*command, f"--trainer.strategy={strategy}", "--trainer.accelerator=cpu"],
            cwd=workshop, env=_environment(), capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        scored[devices] = load_run("linear_line").results[-1]
    assert [scored[devices]["n"] for devices in (1, 2, 3)] == [101, 101, 101]
    for name, value in scored[1]["metrics"].items():
        assert scored[2]["metrics"][name] == pytest.approx(value, rel=1e-6)
        assert scored[3]["metrics"][name] == pytest.approx(value, rel=1e-6)
    alone = litlab("fit", *LINE, "--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1", "--threads=1")
    assert alone.code == 0, alone.err
    one, two = (load_run(f"runs/linear_line/{number}").load("last").state_dict() for number in (1, 0))
    for name, weight in one.items():
        assert two[name].flatten().tolist() == pytest.approx(weight.flatten().tolist(), rel=1e-4), (
            "the same steps as on one device"
        )


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("command", [BY_TORCHRUN, (sys.executable, "-m", "experiments")], ids=["torchrun", "litlab"])
def test_a_process_that_raises_ends_all(workshop: Path, command: tuple[str, ...], rank: int) -> None:
    (workshop / "watching.py").write_text(SEEN)
    words = ["fit", *LINE, "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    words += ["--trainer.callbacks+=watching.Fails", f"--trainer.callbacks.rank={rank}"]
    done = subprocess.run(
        [*command, *words], cwd=workshop, env=_environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.count("ValueError: the first error") == 1, done.stderr
    assert done.stderr.count("in watching.py, line ") == 1, done.stderr
    assert len(list((workshop / "runs").glob("*/*"))) <= 1


@pytest.mark.slow
def test_processes_of_srun_make_one_run(workshop: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job = {**SRUN, "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
    words = [sys.executable, "-m", "experiments", "fit", *LINE, "--trainer.max_epochs=1"]
    started = [
        subprocess.Popen(
            words, cwd=workshop, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=_environment(
                **{**job, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
            ),
        )
        for rank in "01"
    ]  # fmt: skip
    outputs = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    assert [out.count("Trained 1 epoch") for out, _ in outputs] == [1, 0]
    assert [path.name for path in (workshop / "runs/linear_line").iterdir()] == ["0"]
    assert "requeue" not in "".join(err for _, err in outputs), "litlab handles SIGUSR1"


@pytest.mark.slow
def test_a_user_error_under_torchrun_is_reported_once(workshop: Path) -> None:
    done = subprocess.run(
        [*BY_TORCHRUN, "fit", "--trainer.max_epoch=1"],
        cwd=workshop, env=_environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count("Did you mean --trainer.max_epochs?") == 1, done.stderr
    assert not (workshop / "runs").exists()

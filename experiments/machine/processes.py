"""Communication between the processes of a run, and the end of the processes that Lightning started.

Rank 0 makes the decisions of a run, such as the number of its folder. `broadcast_from_first` passes them on:
processes that Lightning starts read an environment variable, those of a launcher a store of torch.distributed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import distributed
from torch.distributed import DistError, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # public names

from experiments.machine.launchers import Launch, check_launched, check_not_launched, launched
from experiments.messages.errors import FailedElsewhere

_TIMEOUT = timedelta(hours=6)  # rank 0 may decode images while the others wait
_FAILED = "failed"
_GRACE, _LONG_GRACE = 5.0, 60.0  # seconds that other processes have to exit after a failure, after a success

_PREFIX = "LITLAB_HANDED_"  # of environment variables for the processes that Lightning starts
_PORT = f"{_PREFIX}PORT"
_calls: Counter[str] = Counter()  # number of commands and of broadcasts in this process, by name
_stores: list[TCPStore] = []  # those that this process serves


def check_launch(command: str) -> None:
    """Start a command; raise an error if it would create several runs or wait for processes that do not exist."""
    launch = launched()
    _calls["command"] += 1  # an error of an earlier command in this process may be reported again
    if _local_rank_zero():
        _stores.clear()
        os.environ.pop(_PORT, None)
    elif launch is None and _PORT in os.environ and _calls["command"] > 1:
        raise SystemExit(0)  # Lightning started this process for one run; the rest of the program is for rank 0
    if launch is not None:
        check_launched(launch, command)
        return
    check_not_launched(single=_PORT not in os.environ)


def _local_rank_zero() -> bool:
    return os.environ.get("LOCAL_RANK", "0") == "0"


def run_first_on_each_node(name: str, work: Callable[[], None]) -> None:
    """Run `work`, which may download or decode data, in one process of each node before the others."""
    launch = launched()
    if launch is None:  # Lightning starts the other processes later
        work()
        return

    def run() -> str:
        work()
        return ""

    broadcast_from_first(f"{name} on node {launch.node}", run, first=launch.local_rank == 0)
    if launch.local_rank != 0:
        work()


def broadcast_from_first(name: str, make: Callable[[], str], first: bool | None = None) -> str:
    """Return in all processes the result of `make` in rank 0, or in the process with `first` True.

    All processes must make the same calls in the same order. Raise FailedElsewhere if `make` failed in that process.
    """
    launch, variable = launched(), f"{_PREFIX}{name.upper()}"
    if launch is None:
        if not _local_rank_zero() and variable in os.environ:
            return os.environ[variable]
        os.environ[variable] = made = make()
        return made
    store = _store(launch)
    _calls[name] += 1  # a script may train several times
    key = f"{name} {_calls[name]}"
    if launch.rank == 0 if first is None else first:
        try:
            made = make()
        except BaseException:
            store.set(key, _FAILED)
            raise
        store.set(key, f"made {made}")
        return made
    found = store.get(key).decode()
    if found == _FAILED:
        raise FailedElsewhere(f"Another process of this run has failed in the step `{name}`; see its error above.")
    return found.removeprefix("made ")


def serve_store(processes: int) -> None:
    """Serve a store for the processes that Lightning will start on this node."""
    if processes > 1 and launched() is None and _local_rank_zero():
        _stores.append(TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
        os.environ[_PORT] = str(_stores[-1].port)


def check_program(processes: int, strategy: Any) -> None:
    """Reject too many devices, or several that would repeat the training or test that the program has done."""
    most = max(16, 4 * (os.cpu_count() or 1))
    if processes > most and launched() is None:  # they would fill the memory
        raise MisconfigurationException(
            f"trainer.devices: {processes:,} devices need as many processes, and this machine can run {most}. "
            "Set fewer --trainer.devices."
        )
    by_program = not any(word in str(strategy) for word in ("spawn", "fork", "notebook")) and not hasattr(sys, "ps1")
    if processes == 1 or not by_program or launched() is not None or not _local_rank_zero():
        return
    if _calls["command"] > 1:
        raise MisconfigurationException(
            f"trainer.devices: each of {processes} devices runs this program from its beginning, and it has trained or "
            "tested before. Make this its first step, or start the program with torchrun (docs/scaling.md)."
        )
    if "LOCAL_RANK" in os.environ:
        raise MisconfigurationException(
            f"LOCAL_RANK=0 means that a launcher starts the {processes} processes, but neither torchrun nor srun "
            "did. Use torchrun (docs/scaling.md), or unset LOCAL_RANK."
        )


def first_to_report() -> bool:
    """Return True if no other process of the run has reported an error; one error usually occurs in all processes.

    Rank 0 serves the store of a run under srun, so it alone reports an error that occurs before the first broadcast.
    """
    try:
        launch, key = launched(), f"reported {_calls['command']}"
    except MisconfigurationException:  # this is the error to report
        return True
    try:
        if launch is not None and launch.by == "srun" and not _store.cache_info().currsize:
            return launch.rank == 0
        if launch is not None:
            return bool(_store(launch).add(key, 1) == 1)
        if _stores:
            return bool(_stores[-1].add(key, 1) == 1)
        port = os.environ.get(_PORT)
        if port is None or _local_rank_zero():
            return True
        return bool(TCPStore("127.0.0.1", int(port), timeout=timedelta(seconds=10)).add(key, 1) == 1)
    except (DistError, KeyError):  # rank 0 has ended and has reported the error
        return launch is not None and launch.rank == 0


@cache
def _store(launch: Launch) -> Store:
    """Connect to the store that the processes of a launch share, which torchrun's agent or rank 0 serves."""
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if launch.by == "torchrun":
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    else:
        cluster = SLURMEnvironment(auto_requeue=False)
        address, port = cluster.main_address, cluster.main_port
    if not agent:  # training uses a store of its own at this port
        port += 10_000 if port < 50_000 else -10_000
    serves = launch.rank == 0 and not agent
    store = TCPStore(address, port, is_master=serves, wait_for_workers=False, timeout=timedelta(minutes=2))
    store.set_timeout(_TIMEOUT)
    return PrefixStore(f"litlab {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def end_others(trainer: Trainer | None, grace: float = _GRACE) -> list[int]:
    """Wait for the processes that Lightning started, kill those that do not exit in time, and return the exit codes."""
    codes = []
    until = time.monotonic() + grace
    for process in getattr(getattr(getattr(trainer, "strategy", None), "launcher", None), "procs", []):
        if isinstance(process, subprocess.Popen):
            try:
                codes.append(process.wait(max(0.0, until - time.monotonic())))
            except subprocess.TimeoutExpired:
                process.kill()  # its exit code is not a failure of its own
    return codes


def leave_group(trainer: Trainer) -> None:
    """Leave the process group after a command; raise FailedElsewhere if a process that Lightning started has failed."""
    if any(end_others(trainer, _LONG_GRACE)):  # a long time, as Lightning kills this process after a killed one
        raise FailedElsewhere("Another process of this run has failed; see its error above.")
    if launched() is None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()

"""Values that the processes of a run share, and the end of processes that Lightning started.

Rank 0 decides for all processes, for example the run folder. `broadcast_from_first` passes the value on: in an
environment variable to processes that Lightning starts, in a store of torch.distributed to those of a launcher.
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
from torch.distributed import DistError, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # public, unlisted

from experiments.machine.launchers import Launch, check_launched, check_not_launched, check_single, launched
from experiments.messages.errors import FailedElsewhere

_TIMEOUT = timedelta(hours=6)  # rank 0 may have images to decode before the others continue
_FAILED = "failed"
_GRACE, _LONG_GRACE = 5.0, 60.0  # seconds for other processes to end by themselves after a failure, after a success

_PREFIX = "LITLAB_HANDED_"  # of the variables in the environment of processes that Lightning starts
_PORT = f"{_PREFIX}PORT"
_times: Counter[str] = Counter()  # commands of this process and broadcasts, by name
_stores: list[TCPStore] = []  # that this process serves


def check_launch(verb: str) -> None:
    """Begin a command; reject environments in which it would become several runs or wait for missing processes."""
    launch = launched()
    _times["command"] += 1  # an error of an earlier command in this process may be reported again
    if _local_rank_zero():
        _stores.clear()
        os.environ.pop(_PORT, None)
    elif launch is None and _PORT in os.environ and _times["command"] > 1:
        raise SystemExit(0)  # Lightning started this process for one run; the rest of the program is for rank 0
    if launch is not None:
        check_launched(launch, verb)
        return
    check_not_launched()
    if _PORT not in os.environ:
        check_single()


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

    broadcast_from_first(f"{name} on machine {launch.node}", run, first=launch.local_rank == 0)
    if launch.local_rank != 0:
        work()


def broadcast_from_first(name: str, make: Callable[[], str], first: bool | None = None) -> str:
    """Return in all processes what `make` returns in rank 0, or in the process with `first` True.

    All processes must call it in the same order. Raise FailedElsewhere if `make` has failed in another process.
    """
    launch, variable = launched(), f"{_PREFIX}{name.upper()}"
    if launch is None:
        if not _local_rank_zero() and variable in os.environ:
            return os.environ[variable]
        os.environ[variable] = made = make()
        return made
    store = _store(launch)
    _times[name] += 1  # a script may fit several times
    key = f"{name} {_times[name]}"
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
        raise FailedElsewhere(name)
    return found.removeprefix("made ")


def serve_store(processes: int) -> None:
    """Serve a store for the processes that Lightning will start next to this one."""
    if processes > 1 and launched() is None and _local_rank_zero():
        _stores.append(TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
        os.environ[_PORT] = str(_stores[-1].port)


def check_program(processes: int, strategy: Any) -> None:
    """Reject several devices if each would rerun a program that has already trained or tested."""
    by_program = not any(word in str(strategy) for word in ("spawn", "fork", "notebook")) and not hasattr(sys, "ps1")
    if processes == 1 or not by_program or launched() is not None or not _local_rank_zero():
        return
    if _times["command"] > 1:
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
    """Return True if no other process of the run has reported an error: all find the same one, or lose rank 0.

    Under srun, rank 0 alone reports errors found before the first broadcast, because it serves the store.
    """
    try:
        launch, key = launched(), f"said {_times['command']}"
    except MisconfigurationException:  # the error to report
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
    """Connect to the store that the processes of a launch share; torchrun's agent serves it, or rank 0."""
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if launch.by == "torchrun":
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    else:
        cluster = SLURMEnvironment(auto_requeue=False)
        address, port = cluster.main_address, cluster.main_port
    if not agent:  # training has its own store at this port
        port += 10_000 if port < 50_000 else -10_000
    serves = launch.rank == 0 and not agent
    store = TCPStore(address, port, is_master=serves, wait_for_workers=False, timeout=timedelta(minutes=2))
    store.set_timeout(_TIMEOUT)
    return PrefixStore(f"litlab {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def end_others(trainer: Trainer | None, grace: float = _GRACE) -> list[int]:
    """End the processes that Lightning started and that may wait for this one; return their exit codes."""
    codes = []
    until = time.monotonic() + grace
    for process in getattr(getattr(getattr(trainer, "strategy", None), "launcher", None), "procs", []):
        if isinstance(process, subprocess.Popen):
            try:
                codes.append(process.wait(max(0.0, until - time.monotonic())))
            except subprocess.TimeoutExpired:
                process.kill()  # not a failure of its own
    return codes


def leave_group(trainer: Trainer) -> None:
    """Leave the process group after a command, so that the next one begins alone. Raise FailedElsewhere."""
    if any(end_others(trainer, _LONG_GRACE)):  # if one were killed, Lightning would kill this process too
        raise FailedElsewhere("another process")
    if launched() is None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()

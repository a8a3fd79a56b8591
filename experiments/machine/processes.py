"""How this process was started: on its own, by Lightning beside a first one, or as one of many by torchrun or srun.

What one process decides for all of a run, such as its folder, it hands on to the others by `hand_on`: through the
environment where Lightning starts them, through a store of torch.distributed where a launcher has.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import distributed
from torch.distributed import DistError, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # public, unlisted

_PATIENCE = timedelta(hours=6)  # the first process may have images to decode before the others go on
_FAILED = "failed"
_GRACE = 5.0  # seconds for other processes to end by themselves

# Before the name of a value in the environment of processes that Lightning starts.
_HANDED = "LITLAB_HANDED_"
_times: Counter[str] = Counter()  # commands of this process, and values handed on, by name
_served: list[TCPStore] = []


class FailedElsewhere(Exception):  # noqa: N818 - says what happened
    """The process that decides for all has failed, and has said why."""


@dataclass(frozen=True)
class Launch:
    """One process of several that `by` ("torchrun" or "srun") has started; ranks count from 0."""

    by: str
    rank: int
    local_rank: int
    size: int
    nodes: int

    @property
    def devices(self) -> int:
        """Processes on each machine."""
        return self.size // self.nodes

    @property
    def node(self) -> int:
        """The machine's number."""
        return self.rank // self.devices

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Trainer arguments that fit the launch, where the user left them open; a contradiction is refused."""
        own: dict[str, Any] = {"devices": self.devices, "num_nodes": self.nodes}
        for name, right in own.items():
            value = given.get(name)
            number = len(value) if isinstance(value, (list, tuple)) else value
            left_open = value in (None, "auto", -1, "-1") or (name == "num_nodes" and value == 1)
            if not left_open and str(number) != str(right):
                raise MisconfigurationException(
                    f"trainer.{name}: {value} does not fit {self.by}, which started {self.size} processes on "
                    f"{self.nodes} machine{'' if self.nodes == 1 else 's'}. Leave it out, or give {right}."
                )
        if given.get("strategy") in (None, "auto"):
            own["strategy"] = "ddp"
        return own


def launched(alone_too: bool = False) -> Launch | None:
    """The launch that this process is part of; None where no launcher started several, or any with `alone_too`."""
    facts = os.environ
    try:
        if "TORCHELASTIC_RUN_ID" in facts:
            size, here = int(facts["WORLD_SIZE"]), int(facts["LOCAL_WORLD_SIZE"])
            found = Launch("torchrun", int(facts["RANK"]), int(facts["LOCAL_RANK"]), size, size // here)
        elif "SLURM_STEP_ID" in facts and not _interactive():
            size, nodes = int(facts.get("SLURM_NTASKS", "1")), int(facts.get("SLURM_NNODES", "1"))
            found = Launch("srun", int(facts["SLURM_PROCID"]), int(facts["SLURM_LOCALID"]), size, nodes)
        else:
            return None
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise MisconfigurationException(
            f"The launcher's environment variables are not whole ({error}). Start litlab by torchrun or srun itself, "
            "or take their variables (TORCHELASTIC_RUN_ID, SLURM_STEP_ID) away for a single process."
        ) from error
    return found if found.size > 1 or alone_too else None


def check_launch(verb: str) -> None:
    """Refuse what would become several runs, or wait for processes that nobody starts; a command begins here."""
    launch, facts = launched(), os.environ
    _times["command"] += 1  # what an earlier one of this process has said may be said again
    if facts.get("LOCAL_RANK", "0") == "0":
        _served.clear()
        facts.pop(f"{_HANDED}PORT", None)
    elif launch is None and f"{_HANDED}PORT" in facts and _times["command"] > 1:
        raise SystemExit(0)  # started for one run; what a program does after it is the first process's
    if launch is not None and launch.size % launch.nodes:
        raise MisconfigurationException(
            f"{launch.by}: {launch.size} processes on {launch.nodes} machines are not the same number on each. "
            "Start as many on every machine."
        )
    if launch is not None and launch.by == "srun" and "SLURM_NTASKS_PER_NODE" not in facts:
        raise MisconfigurationException(
            f"srun: give the processes by --ntasks-per-node={launch.devices} instead of --ntasks; Lightning needs it."
        )
    if launch is not None and verb in ("predict", "data"):
        raise MisconfigurationException(
            f"{verb}: one process writes its result. Start `litlab {verb}` without {launch.by}."
        )
    if launch is not None:
        return
    tasks = facts.get("SLURM_NTASKS", "1")
    if not tasks.isdecimal() and not _interactive():
        raise MisconfigurationException(
            f"SLURM_NTASKS: {tasks!r} is no number of tasks. Unset SLURM_NTASKS for a single process, or start "
            "litlab by srun, which sets it."
        )
    if tasks.isdecimal() and int(tasks) > 1 and "SLURM_STEP_ID" not in facts and not _interactive():
        raise MisconfigurationException(
            f"SLURM has {tasks} tasks for this job, but litlab was not started by srun and would wait for the others. "
            "Start `srun litlab ...` (docs/scaling.md), or unset SLURM_NTASKS for a single process."
        )
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        if facts.get(name, "1").isdigit() and int(facts.get(name, "1")) > 1:
            raise MisconfigurationException(
                f"mpirun started {facts[name]} processes, and each would be a run of its own. Start them by torchrun "
                "or srun (docs/scaling.md)."
            )
    beside = [name for name in ("LOCAL_RANK", "RANK", "NODE_RANK") if facts.get(name, "0") != "0"]
    if beside and f"{_HANDED}PORT" not in facts:
        raise MisconfigurationException(
            f"{beside[0]}={facts[beside[0]]} says that this is one process of several, but neither torchrun nor srun "
            f"nor litlab started it. Use torchrun (docs/scaling.md), or unset {beside[0]} for a single process."
        )


def _interactive() -> bool:
    """Whether SLURM gave a shell, in which commands are typed: then its tasks are not litlab's processes."""
    return os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")


def launch_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Trainer arguments that follow from a launcher; none without one."""
    launch = launched(alone_too=True)
    if launch is None or (launch.by == "srun" and launch.size == 1):
        return {}  # litlab starts the processes of one task by itself
    own = launch.options(given)
    return own if launch.size > 1 else {}


def slurm_plugins() -> list[ClusterEnvironment]:
    """SLURM without Lightning's own handler of SIGUSR1, which saves elsewhere and starts the job again by itself.

    A job of one task starts its processes as on any machine; Lightning would wait for tasks that are not there.
    """
    if "SLURM_NTASKS" not in os.environ or "TORCHELASTIC_RUN_ID" in os.environ or _interactive():
        return []
    return [LightningEnvironment() if launched() is None else SLURMEnvironment(auto_requeue=False)]


def one_first(name: str, work: Callable[[], None]) -> None:
    """Run `work` in every process, on each machine in one of them before the others: it may download or decode."""
    launch = launched()
    if launch is None:  # processes that Lightning starts come later
        work()
        return

    def make() -> str:
        work()
        return ""

    hand_on(f"{name} on machine {launch.node}", make, first=launch.local_rank == 0)
    if launch.local_rank != 0:
        work()


def hand_on(name: str, make: Callable[[], str], first: bool | None = None) -> str:
    """What the run's first process makes, in all of its processes.

    All processes must come here, in the same order. Raises FailedElsewhere where `make` has failed in another one.
    """
    launch, variable = launched(), f"{_HANDED}{name.upper()}"
    if launch is None:
        if os.environ.get("LOCAL_RANK", "0") != "0" and variable in os.environ:
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


def open_exchange(processes: int) -> None:
    """Serve a store for processes that Lightning will start beside this one."""
    if processes > 1 and launched() is None and os.environ.get("LOCAL_RANK", "0") == "0":
        _served.append(TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
        os.environ[f"{_HANDED}PORT"] = str(_served[-1].port)


def check_program(processes: int, strategy: Any) -> None:
    """Refuse several devices where each would run a program that has done something else before."""
    by_program = not any(word in str(strategy) for word in ("spawn", "fork", "notebook")) and not hasattr(sys, "ps1")
    first = launched() is None and os.environ.get("LOCAL_RANK", "0") == "0"
    if processes > 1 and first and by_program and _times["command"] > 1:
        raise MisconfigurationException(
            f"trainer.devices: each of {processes} devices runs this program from its beginning, and it has trained or "
            "tested before. Make this its first step, or start the program by torchrun (docs/scaling.md)."
        )
    if processes > 1 and first and by_program and "LOCAL_RANK" in os.environ:
        raise MisconfigurationException(
            f"LOCAL_RANK=0 says that something else starts the {processes} processes, but neither torchrun nor srun "
            "has. Use torchrun (docs/scaling.md), or unset LOCAL_RANK."
        )


def first_to_say() -> bool:
    """Whether no other process of the run has said what went wrong: all find the same mistake, or lose the first one.

    Under srun what is found before anything was handed on is left to the first process, which serves the store.
    """
    try:
        launch, key = launched(), f"said {_times['command']}"
    except MisconfigurationException:  # that is what is being said
        return True
    try:
        if launch is not None and launch.by == "srun" and not _store.cache_info().currsize:
            return launch.rank == 0
        if launch is not None:
            return bool(_store(launch).add(key, 1) == 1)
        if _served:
            return bool(_served[-1].add(key, 1) == 1)
        port = os.environ.get(f"{_HANDED}PORT")
        if port is None or os.environ.get("LOCAL_RANK", "0") == "0":
            return True
        return bool(TCPStore("127.0.0.1", int(port), timeout=timedelta(seconds=10)).add(key, 1) == 1)
    except (DistError, KeyError):  # the first process is gone, and has said it
        return launch is not None and launch.rank == 0


@cache
def _store(launch: Launch) -> Store:
    """Where the processes of a launch leave each other values; the first one serves it, or torchrun's agent does."""
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if launch.by == "torchrun":
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    else:
        cluster = SLURMEnvironment(auto_requeue=False)
        address, port = cluster.main_address, cluster.main_port
    if not agent:  # training has a store of its own at this port
        port += 10_000 if port < 50_000 else -10_000
    serves = launch.rank == 0 and not agent
    store = TCPStore(address, port, is_master=serves, wait_for_workers=False, timeout=timedelta(minutes=2))
    store.set_timeout(_PATIENCE)
    return PrefixStore(f"litlab {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def end_others(trainer: Trainer | None) -> list[int]:
    """End the processes that Lightning started beside this one, which may wait for it in vain; their exit codes."""
    codes = []
    until = time.monotonic() + _GRACE
    for process in getattr(getattr(getattr(trainer, "strategy", None), "launcher", None), "procs", []):
        if isinstance(process, subprocess.Popen):
            try:
                codes.append(process.wait(max(0.0, until - time.monotonic())))
            except subprocess.TimeoutExpired:
                process.kill()  # no failure of its own
    return codes


def leave_group(trainer: Trainer) -> None:
    """After a command that went well: another one of this process begins alone. Raises FailedElsewhere."""
    if any(end_others(trainer)):
        raise FailedElsewhere("another process")
    if launched() is None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()

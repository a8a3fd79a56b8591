"""Detection of torchrun and srun, and the Trainer arguments that they require."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.messages.formatting import count


@dataclass(frozen=True)
class Launch:
    """One of `size` processes that the launcher `by` ("torchrun" or "srun") has started. Ranks count from 0."""

    by: str
    rank: int
    local_rank: int
    size: int
    nodes: int

    @property
    def devices(self) -> int:
        """Number of processes on each node."""
        return self.size // self.nodes

    @property
    def node(self) -> int:
        """Rank of the node, from 0."""
        return self.rank // self.devices


def launched(allow_single: bool = False) -> Launch | None:
    """Return the launch of this process; None without a launcher, or for a single process unless `allow_single`."""
    variables = os.environ
    try:
        if "TORCHELASTIC_RUN_ID" in variables:
            size, local_size = int(variables["WORLD_SIZE"]), int(variables["LOCAL_WORLD_SIZE"])
            found = Launch("torchrun", int(variables["RANK"]), int(variables["LOCAL_RANK"]), size, size // local_size)
        elif "SLURM_STEP_ID" in variables and not _interactive():
            size, nodes = int(variables.get("SLURM_NTASKS", "1")), int(variables.get("SLURM_NNODES", "1"))
            found = Launch("srun", int(variables["SLURM_PROCID"]), int(variables["SLURM_LOCALID"]), size, nodes)
        else:
            return None
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise MisconfigurationException(
            f"The launcher's environment variables are incomplete or invalid ({error}). Start litlab with torchrun or "
            "srun, or unset their variables (TORCHELASTIC_RUN_ID, SLURM_STEP_ID) for a single process."
        ) from error
    return found if found.size > 1 or allow_single else None


def check_launched(launch: Launch, command: str) -> None:
    """Reject a launch that Lightning does not support, or a command that several processes cannot share."""
    if launch.size % launch.nodes:
        raise MisconfigurationException(
            f"{launch.by}: every node must have the same number of processes, got {launch.size} processes on "
            f"{launch.nodes} nodes. Start the same number on every node."
        )
    if launch.by == "srun" and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise MisconfigurationException(
            f"srun: Lightning needs the number of tasks per node. Pass --ntasks-per-node={launch.devices} instead of "
            "--ntasks."
        )
    if command in ("predict", "data"):
        raise MisconfigurationException(
            f"{command}: a single process writes the result. Start `litlab {command}` without {launch.by}."
        )


def check_not_launched(single: bool) -> None:
    """Raise an error if an unsupported launcher has started several processes, or if `single` and a rank is set."""
    variables = os.environ
    tasks = "1" if _interactive() else variables.get("SLURM_NTASKS", "1")
    if not tasks.isdecimal():
        raise MisconfigurationException(
            f"SLURM_NTASKS must be a number of tasks, got {tasks!r}. Unset it for a single process, or start litlab "
            "with srun, which sets it."
        )
    if int(tasks) > 1 and "SLURM_STEP_ID" not in variables:
        raise MisconfigurationException(
            f"The SLURM job has {tasks} tasks, but litlab was not started by srun and would wait for the other tasks. "
            "Start `srun litlab ...` (docs/scaling.md), or unset SLURM_NTASKS for a single process."
        )
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        size = variables.get(name, "1")
        if size.isdigit() and int(size) > 1:
            raise MisconfigurationException(
                f"mpirun started {size} processes, and each would be a separate run. Start them with torchrun or srun "
                "(docs/scaling.md)."
            )
    ranks = [name for name in ("LOCAL_RANK", "RANK", "NODE_RANK") if variables.get(name, "0") != "0"]
    if single and ranks:
        raise MisconfigurationException(
            f"{ranks[0]}={variables[ranks[0]]} means that this is one process of several, but neither torchrun nor "
            f"srun nor litlab started it. Use torchrun (docs/scaling.md), or unset {ranks[0]} for a single process."
        )


def _interactive() -> bool:
    """Return True in a shell that SLURM started. The tasks of its job are not processes of litlab."""
    return os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")


def launch_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Trainer arguments that the launcher requires, or none; reject arguments that contradict it."""
    launch = launched(allow_single=True)
    if launch is None or (launch.by == "srun" and launch.size == 1):
        return {}  # litlab starts the processes of a single task itself
    required: dict[str, Any] = {"devices": launch.devices, "num_nodes": launch.nodes}
    for name, expected in required.items():
        value = given.get(name)
        number = len(value) if isinstance(value, (list, tuple)) else value
        unset = value in (None, "auto", -1, "-1") or (name == "num_nodes" and value == 1)
        if not unset and str(number) != str(expected):
            raise MisconfigurationException(
                f"trainer.{name} must be {expected}, because {launch.by} started {launch.size} processes on "
                f"{count(launch.nodes, 'node')}, got {value}. Remove it, or set --trainer.{name} {expected}."
            )
    if given.get("strategy") in (None, "auto"):
        required["strategy"] = "ddp"
    return required if launch.size > 1 else {}


def slurm_plugins() -> list[ClusterEnvironment]:
    """Return the plugin for a SLURM job, without Lightning's SIGUSR1 handler, which saves and requeues the job.

    For a job with a single task, Lightning starts the processes itself. With the plugin it would wait for other tasks.
    """
    if "SLURM_NTASKS" not in os.environ or "TORCHELASTIC_RUN_ID" in os.environ or _interactive():
        return []
    return [LightningEnvironment() if launched() is None else SLURMEnvironment(auto_requeue=False)]

"""What a rank has to work with: its device, its CPU threads, its place among the ranks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config import ClusterConfig, Config
from pipeline.container import cpu_limit
from pipeline.errors import UserError

if TYPE_CHECKING:  # importing it costs a second and 125 MB, useless to a process that only prepares a corpus on Ray
    import torch

MOST_SHARERS = 64  # most threads or workers that may share a CPU


@dataclass(frozen=True)
class Worker:
    """Which rank this process is, and what it has to work with."""

    device: torch.device
    num_threads: int
    rank: int = 0
    world_size: int = 1


def local_worker(config: Config) -> Worker:
    """Make this process the only rank. Raises ``UserError`` for a missing GPU, or for far more CPUs than there are."""
    cpus = config.cluster.cpus_per_worker
    check_cpus(1, 1 if cpus == "auto" else cpus)
    return Worker(
        device=resolve_device(config.cluster.device),
        num_threads=own_threads() if cpus == "auto" else cpus,
    )


def own_threads() -> int:
    """Count the threads of a process with no workers beside it: ``OMP_NUM_THREADS``, or one per CPU.

    Two processes with a thread per CPU each wait for one another in busy loops and both take several times as long, so
    whoever starts some side by side sets the variable, as for any program with OpenMP.
    """
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list has a number for each nested level
    return int(given) if given.isdecimal() and int(given) > 0 else available_cpus()


def available_cpus() -> int:
    """Count the CPUs that this process may use: those it may run on, or those its container allows if fewer."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_limit()
    return here if limit is None else max(1, min(here, int(limit)))  # as in Ray, a fraction of a CPU does not count


def limit_threads() -> None:
    """Let torch use no more threads in this process than it has CPUs; torch itself ignores a container's limit.

    ``OMP_NUM_THREADS`` takes precedence.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > available_cpus():
        torch.set_num_threads(available_cpus())


def check_cpus(num_workers: int, each: int) -> None:
    """Raise ``UserError`` if threads and processes for this many CPUs would bring this machine to a halt."""
    if num_workers * each > MOST_SHARERS * available_cpus():
        raise UserError(
            f"cluster.cpus_per_worker: {num_workers} workers of {each:,} CPUs are more than {MOST_SHARERS} times the "
            f"{available_cpus()} CPUs of this machine"
        )


def check_here(cluster: ClusterConfig) -> torch.device:
    """Return the device of workers on this machine alone. Raises ``UserError`` for far too many, or a missing GPU."""
    count, each = cluster.num_workers, cluster.cpus_per_worker
    check_cpus(1 if count == "auto" else count, 1 if each == "auto" else each)
    return resolve_device(cluster.device)


def resolve_device(device: str, *, argument: str = "cluster.device") -> torch.device:
    """Turn ``auto`` into cuda if there is a GPU, else into cpu. Raises ``UserError`` for a missing GPU.

    ``argument``: the setting or option that asked for ``device``.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("cuda was asked for, but there is no GPU here", argument=argument)
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")

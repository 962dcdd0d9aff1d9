"""The CPUs and memory that a container, a pod or a slice allows this process: Linux control groups, versions 1 and 2.

A CPU limit is a share of time: a process with 2 of 64 CPUs may still run on all 64, but it is then stopped for most of
each tenth of a second, and its threads wait for each other. A group is bound by the limits of all groups around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

MEMBERSHIP, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cpu_limit() -> float | None:
    """Return how many CPUs' time this process may use, possibly a fraction; None if that is not limited."""
    limits = []
    for group in groups("cpu"):
        with suppress(OSError, ValueError):  # no such file, or "max"
            quota, period = map(int, (group / "cpu.max").read_text().split())
            limits.append(quota / period)
        with suppress(OSError, ValueError):
            quota = int((group / "cpu.cfs_quota_us").read_text())
            if quota > 0:  # −1: no limit
                limits.append(quota / int((group / "cpu.cfs_period_us").read_text()))
    return min(limits, default=None)


def memory_limit() -> int | None:
    """Return how many bytes of memory this process may use; None if that is not limited."""
    limits = []
    for group in groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):
                limits.append(int((group / name).read_text()))
    return min(limits, default=None)


def groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group for ``controller``, and of the groups around it.

    A container may see its group at the top of its file system, while its membership names the place on the machine:
    then the folders of that place do not exist, and the top is its group.
    """
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if not controllers:  # version 2 has one tree for all
            top = MOUNT
        elif controller in controllers.split(","):
            top = MOUNT / controller
        else:
            continue
        path = PurePosixPath(place)
        for inside in (path, *path.parents):
            if ".." not in inside.parts:  # beyond what this process can see
                yield top / inside.relative_to("/")

"""The CPUs and the memory that a container, a pod or a slice allows this process: Linux control groups, both versions.

A limit of CPUs is a share of time: a process with 2 of 64 CPUs may still run on all 64, is then stopped for most of
each tenth of a second, and threads wait for each other. A group is held to the limits of all groups around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

MEMBERSHIP, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cpu_limit() -> float | None:
    """Return how many CPUs' time this process may use, perhaps a fraction; None where that is not limited."""
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
    """Return how many bytes of memory this process may use; None where that is not limited."""
    limits = []
    for group in groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):
                limits.append(int((group / name).read_text()))
    return min(limits, default=None)


def groups(controller: str) -> Iterator[Path]:
    """The folders of the group that ``controller`` holds this process in and of those around it.

    A container may see itself at the top of its file system but by its place on the machine in its membership: then its
    own folders are not there, and the top is its group.
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

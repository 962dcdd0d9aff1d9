"""How much memory this process holds and has held, as the system reports it."""

from __future__ import annotations

import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def status_bytes(name: str) -> int:
    """Return a figure that Linux reports of this process, such as ``VmRSS``; OSError or KeyError if it does not."""
    figures = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(figures[name].split()[0]) << 10


def peak_bytes() -> int:
    """Return the most memory that this process has held so far.

    Under Linux that is not ``ru_maxrss``: a process begins with the peak of the one that started it, so a command run
    from a notebook of 20 GB would never be below 20 GB.
    """
    try:
        return status_bytes("VmHWM")
    except (OSError, KeyError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

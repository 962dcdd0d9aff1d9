"""Start a submitted job on the cluster with the Python of the cluster's Ray, or say in a sentence why it cannot run.

Ray runs a job's entry point as a shell command in the environment of the shell that started the head, whose ``python``
may be any. The process that does so, the job's supervisor, runs in Ray's own Python (or in that of ``--pip``): there
``remember_python`` leaves its path in an environment variable, which the entry point inherits.

Only the standard library is imported here: anything else may be missing, and then this module must say so.
"""

from __future__ import annotations

import os
import runpy
import sys

PYTHON = "RECURRAY_PYTHON"
OLDEST_PYTHON = (3, 11)
OURS = ("jobs", "pipeline")
EXIT_USAGE = 2


def remember_python() -> None:
    """Leave this Python's path for the entry point. Ray calls it in each process of the job, also in the supervisor."""
    os.environ[PYTHON] = sys.executable


def main(argv: list[str]) -> None:
    """Run ``jobs.<job>`` with the arguments after it, as ``python -m`` does; exit with 2 if this Python cannot."""
    job, *sys.argv[1:] = argv
    if sys.version_info < OLDEST_PYTHON:
        refuse(f"is older than {'.'.join(map(str, OLDEST_PYTHON))}")
    try:
        runpy.run_module(f"jobs.{job}", run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in OURS:
            raise
        refuse(f"has no module {name}")


def refuse(why: str) -> None:
    print(
        f"error: {sys.executable}, the Python that this cluster runs jobs with, {why}; install what the project needs "
        "for it on every node (pip install -c constraints.txt -e .), or submit with --pip FILE",
        file=sys.stderr,
    )
    raise SystemExit(EXIT_USAGE)


if __name__ == "__main__":
    main(sys.argv[1:])

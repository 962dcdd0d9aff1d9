"""Callbacks of a run's controller: they note why a worker was lost or waits, and finally end the controller's process.

No torch is imported here: the controller starts without it.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import ray.train
from ray.exceptions import RayActorError
from ray.train.v2._internal.execution.callback import ControllerCallback

from pipeline.cluster.mailbox import mailbox
from pipeline.cluster.room import waiting
from pipeline.events import PatientFile
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import number_of, read
from pipeline.training.selection import manifests

# what gloo and NCCL say on the remaining workers
PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "gloo/transport", "NCCL", "ncclRemoteError")
NO_STEP = "no-step-rank-{rank}.txt"
LOST = "lost"  # true in the note of a loss that counts (see ``failures``)


class FailureNotes(ray.train.UserCallback):
    """Writes each failure of workers as one line into the run directory, where the driver reads it."""

    def __init__(self, directory: str, owner: str) -> None:
        self.directory = directory
        self.owner = owner

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        directory = RunDirectory(self.directory)
        # Ray does not count either what becomes of a node that was known to be taken away
        counts = not any(getattr(cause(error), "preempted", False) for error in worker_exceptions.values())
        note(directory, self.owner, what_failed(directory, worker_exceptions), **{LOST: counts})


class WaitNotes(ControllerCallback):
    """Notes there too that workers wait for room on the cluster; Ray itself would go on looking for it forever."""

    def __init__(self, directory: str, owner: str, resources: Mapping[str, float]) -> None:
        """``resources`` are those of one worker."""
        self.directory = directory
        self.owner = owner
        self.resources = dict(resources)
        self.is_noted = False

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        why: Any = getattr(getattr(current_state, "training_failed_error", None), "controller_failure", None)
        # compared by name, because these classes are private to Ray
        if type(why).__name__ == "WorkerGroupStartupTimeoutError" and not self.is_noted:
            self.is_noted = True
            note(RunDirectory(self.directory), self.owner, waiting(why.num_workers, self.resources))
        elif type(current_state).__name__ == "RunningState":
            self.is_noted = False


def note(directory: RunDirectory, owner: str, what: str, **more: Any) -> None:
    """Write ``what`` happened to the workers, and of which step the last checkpoint is; ``more`` for the record."""
    found = manifests(directory.path)
    step = found[-1][1]["step"] if found else 0
    text = f"{what}; the last checkpoint is of step {step:,}"
    number = 1 + max(map(number_of, read(directory.failures)), default=0)
    record = {"kind": "warning", "step": step, "record": number, "time": time.time(), "text": text, **more}
    file = PatientFile(directory.failures)
    file.append((json.dumps(record) + "\n").encode())
    if file.failure:
        mailbox(owner)(record)
    file.close()


class QuickExit(ControllerCallback):
    """Ends the controller's process when its work is done, without the destructors of Ray's C++ part.

    On busy cores about one run in twelve never returns from them (Ray 2.60: a publisher still answers through a
    scheduler that is being shut down), and the process is left behind. The actor has left the cluster before that.
    """

    def after_controller_start(self, train_run_context: Any) -> None:
        atexit.register(exit_without_destructors)


def exit_without_destructors() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def cause(error: Exception) -> Exception:
    """Return the cause, which is inside the error, of a worker that no longer answers the controller."""
    return getattr(error, "health_check_failure", error)


def what_failed(directory: RunDirectory, worker_exceptions: dict[int, Exception]) -> str:
    """Return the failure that caused the others, in words: a hang, a death, or the first exception."""
    for rank in sorted(worker_exceptions):
        report = directory.path / NO_STEP.format(rank=rank)
        if report.exists() and report.stat().st_size:
            kept = report.rename(directory.path / f"hung-worker-{rank}-{int(time.time())}.txt")
            return f"worker {rank} made no step within cluster.step_timeout_seconds (where it hung: {kept})"
    for rank, error in sorted(worker_exceptions.items()):
        if isinstance(cause(error), RayActorError):
            return f"worker {rank} died"
    for rank, error in sorted(worker_exceptions.items()):
        if not any(sign in str(error) for sign in PEER_LOST):
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return f"worker {rank} failed ({lines[-1][:200]})"
    # the remaining workers notice before Ray does that a node is gone
    return f"worker {min(worker_exceptions)} lost its connection to another worker"

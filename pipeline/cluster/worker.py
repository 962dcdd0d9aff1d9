"""Run one rank in a Ray Train worker, report why a worker was lost, and end the controller."""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray.train
from ray.exceptions import RayActorError
from ray.train.torch import get_device
from ray.train.v2._internal.execution.callback import ControllerCallback

from pipeline import config as configuration
from pipeline import resources, run
from pipeline.cluster import store
from pipeline.cluster.exchange import Exchange
from pipeline.errors import UserError
from pipeline.events import PatientFile
from pipeline.metrics import all_reduce_sum
from pipeline.training import checkpoint
from pipeline.training.directory import LostOwnershipError, RunDirectory
from pipeline.training.guard import DivergedError, TrainingStoppedError, check_validation
from pipeline.training.loop import LeaveError
from pipeline.training.monitor import Record, number_of, read
from pipeline.training.watchdog import Watchdog

# what gloo and NCCL say on the workers that are left
PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "gloo/transport", "NCCL", "ncclRemoteError")
NO_STEP = "no-step-rank-{rank}.txt"
MAILBOX, MAILBOX_RECORDS = "recurray-records-", 20


def run_rank(settings: dict[str, Any]) -> dict[str, Any]:
    """Run one rank to its end. An error that would occur again is returned, because Ray retries what is raised."""
    context = ray.train.get_context()
    rank = context.get_world_rank()
    config = configuration.validate(settings["config"])
    worker = resources.Worker(
        device=get_device(),
        num_threads=settings["num_threads"],
        rank=rank,
        world_size=context.get_world_size(),
    )

    directory = RunDirectory(str(config.run.directory), held_by=settings["search"])
    exchange = Exchange(settings["exchange"]) if settings["exchange"] else None

    def report(figures: dict[str, Any]) -> None:
        if exchange is None:
            ray.train.report(figures)
            return
        check_validation(figures)
        leave = exchange.ask(figures) if rank == 0 else False
        if all_reduce_sum([float(leave)])[0]:
            raise LeaveError

    def stop_requested() -> bool:
        return directory.stop_requested() or (exchange is not None and rank == 0 and exchange.is_to_leave())

    try:
        status = run.train(
            config,
            worker,
            owner=settings["owner"],
            held_by=settings["search"],
            report=report,
            stop_requested=stop_requested,
            on_waiting=mailbox(settings["owner"]),
            evaluate_at_tokens=settings["evaluate_at_tokens"],
            save_requested=node_leaves_once(),
            watchdog=watchdog(config, rank),
        )
    except UserError as error:
        return {"mistake": str(error)}
    except (TrainingStoppedError, LostOwnershipError) as error:
        return {"stopped": str(error), "diverged": isinstance(error, DivergedError)}
    return {"status": status}


def mailbox(owner: str) -> Callable[[Record], None]:
    """Return a function that leaves a record for the driver ``owner`` in Ray's own store while the disk is full.

    Kept are the last ones, and of those on training, which come by the hundred, only the very last.
    """
    kept: deque[Record] = deque(maxlen=MAILBOX_RECORDS)

    def leave(record: Record) -> None:
        if kept and kept[-1]["kind"] == record["kind"] == "train":
            kept.pop()
        kept.append(record)
        with suppress(Exception):  # Ray is about to end this worker, or to lose it: not the moment to add to that
            store.put(MAILBOX + owner, list(kept))

    return leave


def read_mailbox(owner: str) -> list[Record]:
    """The last records that a worker left there; none where this process has no access to Ray's store."""
    return store.get(MAILBOX + owner) or [] if store.is_there() else []


def take_mailbox(owner: str) -> list[Record]:
    """Return what ``read_mailbox`` returns, and remove it from the cluster."""
    found = read_mailbox(owner)
    if found:
        store.delete(MAILBOX + owner)
    return found


def watchdog(config: configuration.Config, rank: int) -> Watchdog | None:
    seconds = config.cluster.step_timeout_seconds
    if seconds is None:
        return None
    return Watchdog(seconds, RunDirectory(str(config.run.directory)).path / NO_STEP.format(rank=rank))


def node_leaves_once() -> Callable[[], bool]:
    """Return a function that is true once for each notice that a node of this run is about to be taken away."""
    from ray.train.v2._internal.execution.context import get_train_context

    notices: list[Any] = [None]

    def node_leaves() -> bool:
        # the public get_preemption_info is a barrier of all ranks; they agree by themselves here
        notice = get_train_context().preemption_context.preemption_info
        is_new = notice is not None and notice != notices[0]
        notices[0] = notice
        return is_new

    return node_leaves


class FailureNotes(ray.train.UserCallback):
    """Writes each failure of workers as one line into the run directory, where the driver reads it."""

    def __init__(self, directory: str, owner: str) -> None:
        self.directory = directory
        self.owner = owner

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        directory = RunDirectory(self.directory)
        found = checkpoint.manifests(directory.path)
        step = found[-1][1]["step"] if found else 0
        text = f"{what_failed(directory, worker_exceptions)}; the last checkpoint is of step {step:,}"
        number = 1 + max(map(number_of, read(directory.failures)), default=0)
        record = {"kind": "warning", "step": step, "record": number, "time": time.time(), "text": text}
        file = PatientFile(directory.failures)
        file.append((json.dumps(record) + "\n").encode())
        if file.failure:
            mailbox(self.owner)(record)
        file.close()


class QuickExit(ControllerCallback):
    """Ends the controller's process when its work is done, without the destructors of Ray's C++ part.

    On busy cores about one run in twelve never returns from them (Ray 2.60: a publisher still answers through a
    scheduler that is being taken down), and the process stays behind. By then the actor has left the cluster.
    """

    def after_controller_start(self, train_run_context: Any) -> None:
        atexit.register(exit_without_destructors)


def exit_without_destructors() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def what_failed(directory: RunDirectory, worker_exceptions: dict[int, Exception]) -> str:
    """Return the failure that caused the others, in words: a hang, a death, or the first exception."""
    for rank in sorted(worker_exceptions):
        report = directory.path / NO_STEP.format(rank=rank)
        if report.exists() and report.stat().st_size:
            kept = report.rename(directory.path / f"hung-worker-{rank}-{int(time.time())}.txt")
            return f"worker {rank} made no step within cluster.step_timeout_seconds (where it hung: {kept})"
    for rank, error in sorted(worker_exceptions.items()):
        # a worker that does not answer the controller any more: why is within
        if isinstance(getattr(error, "health_check_failure", error), RayActorError):
            return f"worker {rank} died"
    for rank, error in sorted(worker_exceptions.items()):
        if not any(sign in str(error) for sign in PEER_LOST):
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return f"worker {rank} failed ({lines[-1][:200]})"
    # the workers that are left notice before Ray does that a node is gone
    return f"worker {min(worker_exceptions)} lost its connection to another worker"

"""The tasks of a comparison on Ray: each scores or measures, and one whose worker or node was lost begins again.

function, arguments of each call → Ray tasks, with one worker's resources each → what each returns, in order
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from pipeline.cluster.train import Plan
from pipeline.errors import UserError

# a function, and the arguments of each call → what each returns
Tasks = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], list[Any]]
# the process of a task, its node, or what it returned is gone, for no reason that lies in the task
LOST = (WorkerCrashedError, NodeDiedError, LocalRayletDiedError, ObjectLostError)


def on_ray(plan: Plan, *, max_failures: int, say: Callable[[str], None]) -> Tasks:
    """Return ``Tasks`` that run a function on the cluster, once per tuple of arguments, with one worker's resources.

    A task whose worker or node is lost begins again, up to ``max_failures`` times; the others continue meanwhile. The
    first one that fails in another way ends them all: the task would fail again, for want of memory too.
    """
    num_gpus = plan.gpus_per_worker if plan.use_gpu else 0

    def run_tasks(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        # Ray's own retries would also be of tasks that ran out of memory, and these without end
        task = ray.remote(num_cpus=plan.cpus_per_worker, num_gpus=num_gpus, max_retries=0)(function)
        running = {task.remote(*each): number for number, each in enumerate(arguments)}
        results: dict[int, Any] = {}
        losses = dict.fromkeys(range(len(arguments)), 0)
        try:
            while running:
                (first, *_), _ = ray.wait(list(running), num_returns=1)
                number = running.pop(first)
                try:
                    results[number] = result_of(first)
                except LOST as error:
                    if losses[number] >= max_failures:
                        raise stopped(error) from None
                    losses[number] += 1
                    say("a worker was lost while it scored or measured; what it was doing begins again")
                    running[task.remote(*arguments[number])] = number
        finally:
            with suppress(RayError, ConnectionError):  # the cluster itself may be gone
                for left in running:  # nobody will read what they return
                    ray.cancel(left, force=True)
        return [results[number] for number in sorted(results)]

    return run_tasks


def result_of(running: Any) -> Any:
    """Return what a task returned.

    Raises:
        UserError: the task's own, or the task ran out of memory or could not be run.
        RayError: one of ``LOST``, or the task raised something else.
    """
    try:
        return ray.get(running)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        if isinstance(error.cause, MemoryError) or type(error.cause).__name__ == "OutOfMemoryError":
            raise stopped(error.cause) from None
        raise
    except LOST:
        raise
    except RayError as error:  # it was killed because the memory was full, for example
        raise stopped(error) from None


def stopped(error: BaseException) -> UserError:
    """The error to raise when a task that scores or measures was stopped from outside."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return UserError(
        f"compare: scoring or measuring was stopped: {reason}; the runs are kept, the same command continues"
    )

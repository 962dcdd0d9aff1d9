"""Run one rank in a Ray Train worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray.train
import torch

from pipeline import config as configuration
from pipeline import resources, run
from pipeline.cluster.callbacks import NO_STEP
from pipeline.cluster.exchange import Exchange
from pipeline.cluster.mailbox import mailbox
from pipeline.errors import UserError
from pipeline.metrics import all_reduce_sum
from pipeline.training.directory import LostOwnershipError, RunDirectory
from pipeline.training.guard import DivergedError, TrainingStoppedError, check_validation
from pipeline.training.loop import LeaveError
from pipeline.training.watchdog import Watchdog


def run_rank(settings: dict[str, Any]) -> dict[str, Any]:
    """Run one rank to its end. An error that would occur again is returned, because Ray retries what is raised."""
    context = ray.train.get_context()
    rank = context.get_world_rank()
    config = configuration.validate(settings["config"])
    worker = resources.Worker(
        device=device(use_gpu=settings["use_gpu"]),
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


def device(*, use_gpu: bool) -> torch.device:
    """Return the device that Ray has given to this worker."""
    if not use_gpu:
        return torch.device("cpu")
    from ray.train.torch import get_device

    return get_device()


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

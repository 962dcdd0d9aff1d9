"""Runs of several ranks on gloo, one after another in the same processes."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import torch

from pipeline import config as configuration
from pipeline import resources, run
from pipeline.config import Config
from pipeline.training import communication
from pipeline.training.step import WindowLoss
from tests.processes import on_ranks

FORWARD = WindowLoss.forward


class InjectedError(Exception):
    """The failure that a test injects."""


@dataclass
class Plan:
    """A run, and what ends it early: a request to stop, or an exception at a place that all ranks reach."""

    config: Config
    stop_after: int | None = None  # how often the rank is asked: at every step on one rank, at every fourth on several
    fail_at_forward: int | None = None  # the forward pass of this number, counted from 1
    fail_at_report: int | None = None
    bucket_bytes: float = communication.BUCKET_BYTES
    slow: tuple[int, int, float] | None = None  # a rank, how many forward passes, by how many seconds each is delayed


def carry_out(plan: Plan, worker: resources.Worker) -> None:
    """Train as one rank, as far as ``plan`` goes."""
    counts = {"asked": 0, "forward": 0, "report": 0}

    def counted(name: str, limit: int | None) -> bool:
        counts[name] += 1
        return limit is not None and counts[name] >= limit

    def forward(self: WindowLoss, *arguments: Any) -> Any:
        if counted("forward", plan.fail_at_forward):
            raise InjectedError
        if plan.slow is not None and worker.rank == plan.slow[0] and counts["forward"] <= plan.slow[1]:
            time.sleep(plan.slow[2])
        return FORWARD(self, *arguments)

    def report(figures: dict[str, Any]) -> None:
        if counted("report", plan.fail_at_report):
            raise InjectedError

    WindowLoss.forward = forward  # type: ignore[method-assign]
    communication.BUCKET_BYTES, usual = plan.bucket_bytes, communication.BUCKET_BYTES
    try:
        run.train(plan.config, worker, report=report, stop_requested=lambda: counted("asked", plan.stop_after))
        assert plan.fail_at_forward is plan.fail_at_report is None
    except InjectedError:
        for thread in threading.enumerate():  # a process that resumes after a kill would not have them
            if thread.name == "checkpoint":
                thread.join()
    finally:
        WindowLoss.forward = FORWARD  # type: ignore[method-assign]
        communication.BUCKET_BYTES = usual


def rank_of(rank: int, world_size: int, plans: list[tuple[dict[str, Any], list[Any]]]) -> None:
    worker = resources.Worker(device=torch.device("cpu"), num_threads=1, rank=rank, world_size=world_size)
    for values, rest in plans:
        carry_out(Plan(configuration.validate(values), *rest), worker)


def train_on_ranks(world_size: int, *plans: Plan) -> None:
    """Carry out ``plans`` one after another on ``world_size`` ranks; their corpora must be prepared."""
    plain = [(configuration.dump(plan.config), [*vars(plan).values()][1:]) for plan in plans]
    on_ranks(rank_of, world_size, world_size, plain)

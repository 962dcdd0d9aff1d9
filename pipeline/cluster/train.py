"""Run the ranks of a training run on Ray Train.

config → workers planned on the cluster → TorchTrainer → one ``pipeline.run.train`` per worker → status

The run directory is the one truth: ranks read and write it themselves, the driver follows its metrics file, and
Ray carries figures and restarts lost workers.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from pipeline import config as configuration
from pipeline.cluster.backend import RanksConfig
from pipeline.cluster.callbacks import FailureNotes, QuickExit, WaitNotes
from pipeline.cluster.failures import fitted, while_it_saves
from pipeline.cluster.growth import growth
from pipeline.cluster.mailbox import read_mailbox, take_mailbox
from pipeline.cluster.prepare import prepare
from pipeline.cluster.room import check_capacity, gpu_places, most_places, nodes_there
from pipeline.cluster.session import is_private, ray_session
from pipeline.cluster.trainer import OurTrainer, PrivateTrainer
from pipeline.cluster.worker import run_rank
from pipeline.config import ClusterConfig, Config
from pipeline.data.directory import Say
from pipeline.data.prepare import OnShard
from pipeline.data.shards import PreparedCorpus
from pipeline.errors import UserError
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import Record, Tail

POLL_SECONDS = 0.2
MAILBOX_EVERY_POLLS, SHOWN_RECORDS = 5, 1000
# how often an elastic run looks for nodes that have come back, and how long it waits for missing ones at a restart
RESIZE_SECONDS = 30.0
START_SECONDS = "20"


@dataclass(frozen=True)
class Plan:
    """How many workers, and what each of them is given."""

    num_workers: int
    cpus_per_worker: int
    use_gpu: bool
    min_workers: int | None = None  # fewer than num_workers will do; None: exactly num_workers
    gpus_per_worker: float = 1.0  # if use_gpu

    @property
    def resources(self) -> dict[str, float]:
        """Return the resources of one worker, as Ray counts them."""
        return {"CPU": self.cpus_per_worker, **({"GPU": self.gpus_per_worker} if self.use_gpu else {})}


def plan_workers(cluster: ClusterConfig) -> Plan:
    """Resolve the ``auto`` settings on the nodes that are there and those that an autoscaling cluster may add.

    There is one worker per GPU (or for as many as each has) or, while there is no GPU yet, per GPU of one node to be
    added; without GPUs a single worker with all CPUs of the largest node: data-parallel workers on the CPUs of one
    machine are slower than one worker with all its threads.

    Raises:
        UserError: several workers of a run that would share a GPU.
    """
    there = nodes_there()
    nodes = there + growth()
    has_gpus = any(node.get("GPU") for node in nodes)
    use_gpu = cluster.device == "cuda" or (cluster.device == "auto" and has_gpus)
    nodes = [node for node in nodes if node.get("GPU") or not use_gpu]
    each = cluster.gpus_per_worker
    shares_gpu = use_gpu and each < 1
    if shares_gpu and cluster.num_workers not in ("auto", 1):
        raise UserError(
            f"cluster.gpus_per_worker: must be at least 1 for {cluster.num_workers} workers of a run, not {each:g}: "
            "NCCL takes only one on a GPU"
        )
    there_now = sum(gpu_places(node, max(1, each)) for node in there)
    on_one_node = max((gpu_places(node, max(1, each)) for node in nodes), default=0)
    automatic = max(1, there_now or on_one_node) if use_gpu else 1
    count = automatic if shares_gpu or cluster.num_workers == "auto" else cluster.num_workers
    cpus = cluster.cpus_per_worker
    if cpus == "auto":
        most = [gpu_places(node, max(1, each)) if use_gpu else count for node in nodes]
        cpus = _even_share([int(node.get("CPU", 0)) for node in nodes], count, most)
        if shares_gpu:  # with the workers of other runs, and the CPUs beside it as well
            cpus = cpus // gpu_places({"GPU": 1}, each) or 1
    num_workers = 1 if shares_gpu else count
    least = cluster.min_workers
    return Plan(num_workers, cpus, use_gpu, None if least is None else min(least, num_workers), each)


def _even_share(node_cpus: Sequence[int], num_workers: int, most: Sequence[int]) -> int:
    """Return the most CPUs that each of ``num_workers`` can have, with up to ``most`` workers per node; at least 1."""
    for share in range(max(node_cpus, default=1), 1, -1):
        if sum(min(cpus // share, limit) for cpus, limit in zip(node_cpus, most, strict=True)) >= num_workers:
            return share
    return 1


@dataclass
class OnRay:
    """The executor of ``cluster.backend=ray`` (see ``pipeline.launch``)."""

    plan: Plan
    max_failures: int
    evaluate_at_tokens: Sequence[int] = ()
    private: bool = False  # the cluster ends with this process
    search: str | None = None  # the directory of the search that this run is a trial of
    exchange: str | None = None  # where its ranks ask at each validation whether to continue (see ``exchange``)

    @property
    def num_workers(self) -> int:
        return self.plan.num_workers

    @property
    def num_at_once(self) -> int:
        """Return how many runs of this plan the cluster has room for, at the largest size that it may grow to."""
        plan = self.plan
        return max(1, most_places(plan.resources) // plan.num_workers)

    def prepare(self, config: Config, *, on_shard: OnShard, say: Say) -> PreparedCorpus:
        return prepare(config, on_shard=on_shard, say=say)

    def train(self, config: Config, *, owner: str, on_record: Callable[[Record], None]) -> str:
        """Run the workers; the driver's main thread follows their metrics file and stays free for signals."""
        directory = RunDirectory(str(config.run.directory))
        news = News([Tail(directory.metrics), Tail(directory.failures)], owner)

        def show(has_ended: bool) -> None:
            for record in news.records(last=has_ended):
                on_record(record)

        return self.fit(config, owner, lambda work: in_background(work, meanwhile=show))

    def fit(self, config: Config, owner: str, call: Callable[[Callable[[], Any]], Any] = lambda work: work()) -> str:
        """Run the workers to their end, each time by a ``call``; returns the status. Raises like ``fitted``."""

        def fit(max_failures: int) -> str:
            return fitted(lambda: call(self.trainer(config, owner=owner, max_failures=max_failures).fit))

        return while_it_saves(fit, RunDirectory(str(config.run.directory)), max_failures=self.max_failures)

    def trainer(self, config: Config, *, owner: str, max_failures: int) -> TorchTrainer:
        """The Ray trainer of ``config``, not yet started."""
        plan = self.plan
        if plan.min_workers:
            os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", START_SECONDS)
        elastic: dict[str, Any] = {"num_workers": plan.num_workers}
        if plan.min_workers:
            number = plan.min_workers, plan.num_workers
            elastic = {"num_workers": number, "elastic_resize_monitor_interval_s": RESIZE_SECONDS}
        directory = str(config.run.directory)
        ours: list[Any] = [FailureNotes(directory, owner), WaitNotes(directory, owner, plan.resources), QuickExit()]
        loop: Any = run_rank
        ranks: Any = RanksConfig("nccl" if plan.use_gpu else "gloo")
        return (PrivateTrainer if self.private else OurTrainer)(
            loop,
            train_loop_config={
                "config": configuration.dump(config),
                "owner": owner,
                "search": self.search,
                "exchange": self.exchange,
                "num_threads": plan.cpus_per_worker,
                "use_gpu": plan.use_gpu,
                "evaluate_at_tokens": list(self.evaluate_at_tokens),
            },
            torch_config=ranks,
            scaling_config=ScalingConfig(
                **elastic,
                use_gpu=plan.use_gpu,
                resources_per_worker=plan.resources,
            ),
            run_config=RunConfig(
                name=owner,
                storage_path=str(Path(directory) / "ray"),
                failure_config=FailureConfig(max_failures=max_failures),
                callbacks=ours,
            ),
        )


class News:
    """Reads what the workers report: from files, or from Ray's own store while the disk is full."""

    def __init__(self, tails: Sequence[Tail], owner: str) -> None:
        self.tails = tails
        self.owner = owner
        self.num_polls = 0
        self.may_repeat = False  # records from Ray's store come again, in their file
        self.shown: deque[Record] = deque(maxlen=SHOWN_RECORDS)

    def records(self, *, last: bool = False) -> list[Record]:
        """Return the records since the last call, each once. ``last``: there will be no further call."""
        found = [record for tail in self.tails for record in tail.records()]
        self.num_polls += 1
        if last or self.num_polls % MAILBOX_EVERY_POLLS == 0:
            early = take_mailbox(self.owner) if last else read_mailbox(self.owner)
            self.may_repeat = self.may_repeat or bool(early)
            found += early
        news = [record for record in found if not self.may_repeat or record not in self.shown]
        self.shown.extend(news)
        return news


def in_background(work: Callable[[], Any], *, meanwhile: Callable[[bool], None]) -> Any:
    """Run ``work`` in another thread and return its result; this one calls ``meanwhile`` and stays free for signals.

    Args:
        meanwhile: called again and again with whether ``work`` has ended; the last call is the only one with true.

    Raises:
        BaseException: what ``work`` raised.
    """
    outcome: dict[str, Any] = {}

    def target() -> None:
        try:
            outcome["result"] = work()
        except BaseException as error:
            outcome["exception"] = error

    thread = threading.Thread(target=target, name=getattr(work, "__name__", "work"), daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        meanwhile(not thread.is_alive())
    if "exception" in outcome:
        raise outcome["exception"]
    return outcome["result"]


@contextmanager
def on_ray(config: Config, *, verbose: bool = False) -> Iterator[OnRay]:
    """Yield the executor on the configured cluster, or on a private local one that lasts as long as this context.

    Raises:
        UserError: no cluster at the address, or one that can never hold the workers.
    """
    with ray_session(config.cluster, verbose=verbose):
        plan = plan_workers(config.cluster)
        check_capacity(plan.min_workers or plan.num_workers, plan.resources)
        yield OnRay(plan, max_failures=config.cluster.max_failures, private=is_private())

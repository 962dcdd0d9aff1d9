"""Prepare a corpus with Ray Data: each range of it is one fused task that reads, tokenizes and writes its shard.

Only the manifest's entries come back, so neither block sizes nor the order of completion matter. In a process that has
joined a cluster through ray://, where Ray Data (2.60) does not run, Ray itself runs the tasks.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import ray
import ray.data
import ray.util.client

from pipeline.allocator import keep_freed_memory
from pipeline.cluster.data_actors import without_actors
from pipeline.cluster.session import ray_session
from pipeline.config import Config
from pipeline.data import prepare as core
from pipeline.data.directory import Say
from pipeline.data.prepare import OnShard
from pipeline.data.shards import PreparedCorpus
from pipeline.data.tasks import Task
from pipeline.errors import UserError

# a task of Ray Data adds 6 ms to its work, which turns bytes into tokens by the megabyte
BLOCK_BYTES, BLOCKS_PER_CPU = 32 << 20, 2
LEAST_AT_ONCE = 16  # tasks without Ray Data, so that a cluster without a CPU yet adds nodes


@contextmanager
def on_ray(config: Config, *, verbose: bool = False) -> Iterator[Callable[..., PreparedCorpus]]:
    """Yield ``prepare`` for the configured cluster, or for a private local one that lasts as long as this context.

    Raises:
        UserError: no cluster at the address.
    """
    with ray_session(config.cluster, verbose=verbose):
        yield prepare


def prepare(
    config: Config, *, on_shard: OnShard = lambda entry, total: None, say: Say = lambda sentence: None
) -> PreparedCorpus:
    """Do what ``pipeline.data.prepare.prepare`` does on the Ray that this process is connected to."""
    return core.prepare(config, map_tasks=map_tasks, on_shard=on_shard, say=say)


def map_tasks(tasks: Sequence[Task]) -> Iterator[Any]:
    """Run each task somewhere on the cluster, and yield the results as they are done.

    Raises:
        UserError: what a task found wrong with the text or the disk, in its own words.
    """
    if not tasks:
        return
    run = run_with_ray if ray.util.client.ray.is_connected() else run_with_ray_data
    with closing(run(tasks)) as rows:
        for row in rows:
            result = pickle.loads(row["result"])
            if isinstance(result, UserError):
                raise result
            yield result


def run_with_ray_data(tasks: Sequence[Task]) -> Generator[dict[str, bytes], None, None]:
    """Run ``tasks`` with Ray Data."""
    # Ray Data's logger has a level of its own; let it say no more than Ray does
    logging.getLogger("ray.data").setLevel(logging.getLogger("ray").getEffectiveLevel())
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Only figures flow, so nothing can pile up. With its policies, Ray Data starts one task at a time until it has
    # learnt how large the cluster is, a second after the start; without them, Ray itself fills every CPU there is.
    context.set_config("backpressure_policies.enabled", [])
    rows = [{"task": pickle.dumps(task)} for task in tasks]  # plain bytes: Arrow has no column for our classes
    with without_actors():
        yield from ray.data.from_items(rows, override_num_blocks=num_blocks(tasks)).map(run_task).iter_rows()


def run_with_ray(tasks: Sequence[Task]) -> Generator[dict[str, bytes], None, None]:
    """Run ``tasks`` without Ray Data, some for each CPU at a time."""
    remote = ray.remote(run_task)
    left = list(reversed(tasks))
    running: list[Any] = []
    try:
        while left or running:
            at_once = max(LEAST_AT_ONCE, BLOCKS_PER_CPU * num_cpus())
            while left and len(running) < at_once:
                running.append(remote.remote({"task": pickle.dumps(left.pop())}))
            done, running = ray.wait(running)
            yield from ray.get(done)
    finally:
        for one in running:  # of no use any more if one of them has found a mistake
            ray.cancel(one)
        if running:  # none of them writes any longer once this has ended
            ray.wait(running, num_returns=len(running))


def num_blocks(tasks: Sequence[Task]) -> int:
    """Return how many Ray Data tasks share ``tasks``: enough for every CPU, and no more than the work is worth."""
    by_size = sum(task.num_bytes for task in tasks) // BLOCK_BYTES
    return min(len(tasks), max(BLOCKS_PER_CPU * num_cpus(), by_size))


def num_cpus() -> int:
    """Return how many CPUs the cluster has now."""
    return int(ray.cluster_resources().get("CPU", 1))


def run_task(row: dict[str, bytes]) -> dict[str, bytes]:
    """Run one task in a worker. A mistake in the text is returned, because Ray would retry a task that raises it."""
    keep_freed_memory()
    try:
        result = pickle.loads(row["task"])()
    except UserError as error:
        result = error
    return {"result": pickle.dumps(result)}

"""Prepare a corpus with Ray Data: each range of it is one fused task that reads, tokenizes and writes its shard.

Only the manifest's entries come back, so neither block sizes nor the order of completion matter.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import ray.data

from pipeline.allocator import keep_freed_memory
from pipeline.config import Config
from pipeline.data import prepare as core
from pipeline.data.directory import Say
from pipeline.data.prepare import OnShard
from pipeline.data.shards import PreparedCorpus
from pipeline.data.tasks import Task, run_line, to_line
from pipeline.errors import UserError
from pipeline.storage import UnwritableError

# a task of Ray Data takes 6 ms beside its work, in which bytes become tokens by the megabyte
BLOCK_BYTES, BLOCKS_PER_CPU = 32 << 20, 2


def prepare(
    config: Config, *, on_shard: OnShard = lambda entry, total: None, say: Say = lambda sentence: None
) -> PreparedCorpus:
    """As ``pipeline.data.prepare.prepare``, on the Ray that this process is connected to."""
    return core.prepare(config, map_tasks=map_tasks, on_shard=on_shard, say=say)


def map_tasks(tasks: Sequence[Task]) -> Iterator[dict[str, Any]]:
    """Run each task somewhere on the cluster; the results come as they are done.

    Raises:
        UserError: what a task found wrong with the text or the disk, in its own words.
    """
    if not tasks:
        return
    # Ray Data has a logger of its own level; let it say no more than Ray does
    logging.getLogger("ray.data").setLevel(logging.getLogger("ray").getEffectiveLevel())
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Only figures flow, so nothing can pile up. With its policies Ray Data starts one task at a time until it has heard
    # how large the cluster is, a second after the beginning; without them Ray itself fills every CPU there is.
    context.set_config("backpressure_policies.enabled", [])
    rows = [{"task": to_line(task)} for task in tasks]
    for row in ray.data.from_items(rows, override_num_blocks=num_blocks(tasks)).map(run_task).iter_rows():
        result = json.loads(row["result"])
        if "mistake" in result:
            raise UnwritableError(result["mistake"]) if result["is_unwritable"] else UserError(result["mistake"])
        yield result


def num_blocks(tasks: Sequence[Task]) -> int:
    """How many tasks of Ray Data do ``tasks``: enough for every CPU, and no more than the work is worth."""
    num_cpus = int(ray.cluster_resources().get("CPU", 1))
    by_size = sum(task.num_bytes for task in tasks) // BLOCK_BYTES
    return min(len(tasks), max(BLOCKS_PER_CPU * num_cpus, by_size))


def run_task(row: dict[str, str]) -> dict[str, str]:
    """One task in a worker. A mistake in the text is returned, not raised: it would be tried again."""
    keep_freed_memory()
    try:
        result = run_line(row["task"])
    except UserError as error:
        result = {"mistake": str(error), "is_unwritable": isinstance(error, UnwritableError)}
    return {"result": json.dumps(result)}

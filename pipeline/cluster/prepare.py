"""Prepare a corpus with Ray Data: each range of it is one fused task that reads, tokenizes and writes its shard.

Only the manifest's entries come back, so neither block sizes nor the order of completion matter.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import ray.data

from pipeline.config import Config
from pipeline.data import prepare as core
from pipeline.data.prepare import OnShard, RangeTask
from pipeline.data.shards import PreparedCorpus, UnwritableError
from pipeline.errors import is_user_error


def prepare(config: Config, *, on_shard: OnShard = lambda entry, total: None) -> PreparedCorpus:
    """As ``pipeline.data.prepare.prepare``, on the Ray that this process is connected to."""
    return core.prepare(config, map_ranges=map_ranges, on_shard=on_shard)


def map_ranges(tasks: Sequence[RangeTask]) -> Iterator[dict[str, Any]]:
    """Run each task somewhere on the cluster; the entries come as they are done.

    Raises:
        ValueError: what a task found wrong with the text or the disk, in its own words.
    """
    if not tasks:
        return
    # Ray Data has a logger of its own level; let it say no more than Ray does
    logging.getLogger("ray.data").setLevel(logging.getLogger("ray").getEffectiveLevel())
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [{"task": task.to_json()} for task in tasks]
    for row in ray.data.from_items(rows, override_num_blocks=len(rows)).map(run_task).iter_rows():
        entry = json.loads(row["entry"])
        if "mistake" in entry:
            raise UnwritableError(entry["mistake"]) if entry["is_unwritable"] else ValueError(entry["mistake"])
        yield entry


def run_task(row: dict[str, str]) -> dict[str, str]:
    """One task in a worker. A mistake in the text is returned, not raised: it would be tried again."""
    try:
        entry = RangeTask.from_json(row["task"])()
    except ValueError as error:
        if not is_user_error(error):
            raise
        entry = {"mistake": str(error), "is_unwritable": isinstance(error, UnwritableError)}
    return {"entry": json.dumps(entry)}

"""Which trials continue at a rung, pause, or are promoted: ``search.scheduler`` by name.

A scheduler gets every record of the journal, in order, and remembers nothing else: given the same records, it decides
the same.
"""

from __future__ import annotations

from pipeline.config import SearchConfig
from pipeline.search.rungs import intervals, rungs
from pipeline.search.schedulers.asha import Asha, Hyperband
from pipeline.search.schedulers.base import CONTINUE, PAUSE, STOP, Decision, Scheduler
from pipeline.search.schedulers.median import Median
from pipeline.search.schedulers.pbt import Pbt
from pipeline.search.schedulers.stopping import AshaStopping

__all__ = ["CONTINUE", "PAUSE", "SCHEDULERS", "STOP", "Decision", "Scheduler", "milestones_of", "scheduler_of"]

SCHEDULERS: dict[str, type[Scheduler]] = {
    "none": Scheduler,
    "asha": Asha,
    "hyperband": Hyperband,
    "median": Median,
    "asha_stopping": AshaStopping,
    "pbt": Pbt,
}


def scheduler_of(settings: SearchConfig, budget_tokens: int) -> Scheduler:
    """The scheduler of a search whose trials train on ``budget_tokens`` if nothing stops them."""
    return SCHEDULERS[settings.scheduler](settings, milestones_of(settings, budget_tokens), budget_tokens)


def milestones_of(settings: SearchConfig, budget_tokens: int) -> list[int]:
    """Numbers of tokens at which the trials of a search are compared, rising."""
    if settings.scheduler == "none":
        return []
    return (intervals if settings.scheduler == "pbt" else rungs)(settings, budget_tokens)

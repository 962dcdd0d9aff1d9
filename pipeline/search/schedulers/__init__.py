"""Who goes on at a rung, who pauses, who is promoted: ``search.scheduler`` by name.

A scheduler is told every record of the journal, in its order, and remembers nothing else: one that is told the same
records decides the same.
"""

from __future__ import annotations

from pipeline.config import SearchConfig
from pipeline.search.rungs import rungs
from pipeline.search.schedulers.asha import Asha, Hyperband
from pipeline.search.schedulers.base import CONTINUE, PAUSE, STOP, Decision, Scheduler
from pipeline.search.schedulers.median import Median
from pipeline.search.schedulers.stopping import AshaStopping

__all__ = ["CONTINUE", "PAUSE", "SCHEDULERS", "STOP", "Decision", "Scheduler", "scheduler_of"]

SCHEDULERS: dict[str, type[Scheduler]] = {
    "none": Scheduler,
    "asha": Asha,
    "hyperband": Hyperband,
    "median": Median,
    "asha_stopping": AshaStopping,
}


def scheduler_of(settings: SearchConfig, budget_tokens: int) -> Scheduler:
    """The scheduler of a search whose trials train on ``budget_tokens`` if nothing stops them."""
    milestones = [] if settings.scheduler == "none" else rungs(settings, budget_tokens)
    return SCHEDULERS[settings.scheduler](settings, milestones, budget_tokens)

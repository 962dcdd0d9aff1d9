"""The median rule: a trial that is worse than the median of the others at its rung pauses until it no longer is.

Golovin et al. 2017, "Google Vizier", section 3.2.2: a trial is worse if its best so far is above the median of the
running averages of the others up to the same tokens.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from pipeline.config import SearchConfig
from pipeline.search.schedulers.base import CONTINUE, PAUSE, Decision, RungScheduler
from pipeline.search.standing import PAUSED, Trial

LEAST_OTHERS = 3  # at a rung, for their median to count


class Median(RungScheduler):
    """One table for each rung; a trial counts as it was when it got there."""

    def __init__(self, settings: SearchConfig, milestones: Sequence[int], budget_tokens: int) -> None:
        super().__init__(settings, milestones, budget_tokens)
        self.averages: dict[int, dict[str, float]] = {rung: {} for rung in milestones}
        self.ordered: dict[int, list[float]] = {rung: [] for rung in milestones}  # the same, rising

    def apply(self, record: Mapping[str, Any], trial: Trial) -> None:
        super().apply(record, trial)
        if record["kind"] == "report" and record["rung"] and trial.confirms is None:
            average = fmean(report["loss"] for report in trial.reports)
            self.averages[record["rung"]][trial.name] = average
            bisect.insort(self.ordered[record["rung"]], average)

    def at_rung(self, trial: Trial, rung: int) -> Decision:
        return PAUSE if self.is_worse(trial, rung, trial.best_loss) else CONTINUE

    def is_worse(self, trial: Trial, rung: int, loss: float) -> bool:
        """Whether ``loss`` is above the median of the others' averages at ``rung``."""
        ordered = self.ordered[rung]
        own = bisect.bisect_left(ordered, self.averages[rung][trial.name])
        num_others = len(ordered) - 1

        def of_others(place: int) -> float:
            return ordered[place if place < own else place + 1]

        if num_others < LEAST_OTHERS:
            return False
        return loss > (of_others((num_others - 1) // 2) + of_others(num_others // 2)) / 2

    def promotion(self, *, closing: bool = False) -> Trial | None:
        for rung in reversed(self.milestones):
            for loss, _, trial in self.table(rung).entries:
                is_here = trial.state == PAUSED and trial.paused_at == rung
                if is_here and not self.is_worse(trial, rung, loss):
                    return trial
        return None

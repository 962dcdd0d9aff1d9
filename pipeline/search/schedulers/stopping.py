"""ASHA as in Ray Tune: the worse trials stop for good. For comparison, and for searches of earlier versions.

At each rung a trial continues if its loss there is among the best 1 in ``reduction_factor`` of those that got there
before; the decision is final.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.config import SearchConfig
from pipeline.search.schedulers.base import CONTINUE, Decision, Scheduler
from pipeline.search.standing import Trial


class AshaStopping(Scheduler):
    """The losses of all trials at each rung; the first report at a rung decides."""

    def __init__(self, settings: SearchConfig, milestones: Sequence[int], budget_tokens: int) -> None:
        super().__init__(settings, milestones, budget_tokens)
        self.losses: dict[int, dict[str, float]] = {rung: {} for rung in milestones}

    def apply(self, record: Mapping[str, Any], trial: Trial) -> None:
        if record["kind"] == "report" and record["rung"] and trial.confirms is None:
            self.losses[record["rung"]].setdefault(trial.name, record["loss"])

    def at_rung(self, trial: Trial, rung: int) -> Decision:
        losses = self.losses[rung]
        others = [loss for name, loss in losses.items() if name != trial.name]
        factor = self.settings.reduction_factor
        if others and losses[trial.name] > float(np.percentile(others, 100 / factor)):
            return Decision("stop", f"not among the best 1 in {factor} at {rung:,} tokens")
        return CONTINUE

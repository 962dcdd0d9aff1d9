"""Rungs: the numbers of tokens at which the trials of a search are compared, and who is stopped there.

Asynchronous successive halving (Li et al. 2020): at each rung a trial goes on if it is among the best
1 in ``reduction_factor`` of those that came there before. Losses are compared in nats, which do not overflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from pipeline.cluster.journal import Standing
from pipeline.config import SearchConfig


def rungs(settings: SearchConfig, budget_tokens: int) -> list[int]:
    """Tokens at which trials are compared: grace, grace × factor, … below the budget."""
    rung = settings.grace_tokens or max(1, budget_tokens // settings.reduction_factor**2)
    result = []
    while rung < budget_tokens:
        result.append(rung)
        rung *= settings.reduction_factor
    return result


class Halving:
    """The losses of all trials at each rung."""

    def __init__(self, milestones: Sequence[int], reduction_factor: int) -> None:
        self.reduction_factor = reduction_factor
        self.losses: dict[int, dict[str, float]] = {rung: {} for rung in milestones}

    def stops(self, trial: str, *, tokens: int, loss: float) -> bool:
        """Note what ``trial`` reports (nats per token), and whether it is to stop there.

        A report counts for the highest rung that it reaches, once a trial: the first one decides.
        """
        rung = reached(list(self.losses), tokens)
        if not rung or trial in self.losses[rung]:
            return False
        others = list(self.losses[rung].values())
        self.losses[rung][trial] = loss
        return bool(others) and loss > float(np.percentile(others, 100 / self.reduction_factor))

    def replay(self, standing: Standing) -> None:
        """Note what the trials of a search reported in earlier sittings."""
        for trial in standing.trials.values():
            for report in trial.reports:
                self.stops(trial.name, tokens=report["tokens"], loss=report["loss"])


def reached(milestones: Sequence[int], tokens: int) -> int:
    """The highest rung that ``tokens`` reach; 0 for none."""
    return max((rung for rung in milestones if rung <= tokens), default=0)


class StopsWorse(FIFOScheduler):
    """Ray Tune's side of ``Halving``: trials start in their order, and the worse ones stop for good."""

    def __init__(self, halving: Halving) -> None:
        super().__init__()
        self.halving = halving

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if "loss" not in result:  # how the trial ended
            return TrialScheduler.CONTINUE
        stops = self.halving.stops(trial.config["trial"], tokens=result["tokens"], loss=result["loss"])
        return TrialScheduler.STOP if stops else TrialScheduler.CONTINUE

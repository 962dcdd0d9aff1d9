"""Rungs: the numbers of tokens at which the trials of a search are compared, and who reached each with what loss.

Losses are compared in nats per token, which do not overflow. A trial counts once, with the best of its validations up
to the rung; of equal ones the earlier trial is the better.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.config import SearchConfig
from pipeline.search.standing import Trial


def rungs(settings: SearchConfig, budget_tokens: int) -> list[int]:
    """Tokens at which trials are compared: grace, grace × factor, … below the budget.

    At least half the first rung is left after the last one, or a pause is not worth it. Ray's rule for
    ``asha_stopping``, with which searches of earlier versions continue, has no such bound.
    """
    rung = settings.grace_tokens or max(1, budget_tokens // settings.reduction_factor**2)
    last = budget_tokens - (1 if settings.scheduler == "asha_stopping" else (rung + 1) // 2)
    result = []
    while rung <= last:
        result.append(rung)
        rung *= settings.reduction_factor
    return result


def intervals(settings: SearchConfig, budget_tokens: int) -> list[int]:
    """Tokens at which a population is compared: multiples of the interval, at least half of one below the budget."""
    interval = settings.perturbation_interval_tokens or max(1, budget_tokens // 10)
    return list(range(interval, budget_tokens - (interval + 1) // 2 + 1, interval))


def reached(milestones: Sequence[int], tokens: int) -> int:
    """The highest rung that ``tokens`` reach; 0 for none."""
    index = bisect.bisect_right(milestones, tokens)
    return milestones[index - 1] if index else 0


@dataclass
class Rung:
    """The trials that reached one rung, the best first, and those of them that were promoted from it."""

    entries: list[tuple[float, int, Trial]] = field(default_factory=list)  # loss, number, trial
    promoted: set[str] = field(default_factory=set)

    def add(self, trial: Trial, loss: float) -> None:
        bisect.insort(self.entries, (loss, trial.number, trial), key=lambda entry: entry[:2])

    def __len__(self) -> int:
        return len(self.entries)

    def not_promoted(self, *, among: int) -> Iterator[Trial]:
        """Of the best ``among`` trials, those that were not promoted, the best first."""
        return (trial for _, _, trial in self.entries[:among] if trial.name not in self.promoted)

"""Asynchronous successive halving, as published: trials pause at their rung, and are promoted when their turn comes.

Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2: a trial that reaches a rung
pauses there; whenever there is room, a trial among the best 1 in ``reduction_factor`` of its rung that was not yet
promoted continues, from the highest rung first; a new one is drawn only if there is none. Ray's own ASHA stops trials
for good instead (``asha_stopping``).
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import SearchConfig
from pipeline.search.schedulers.base import CONTINUE, PAUSE, Decision, RungScheduler
from pipeline.search.standing import LOST, PAUSED, Trial


class Asha(RungScheduler):
    """One bracket, from the lowest rung on."""

    promotes = True

    def at_rung(self, trial: Trial, rung: int) -> Decision:
        if self.bracket(trial) > self.milestones.index(rung):
            return CONTINUE  # its bracket begins higher up
        return CONTINUE if self.promotion(beside=trial) is trial else PAUSE

    def promotion(self, *, closing: bool = False, beside: Trial | None = None) -> Trial | None:
        """As ``Scheduler.promotion``; ``beside``: a trial that has just reached its rung and counts as paused there."""
        tables = [
            (rung, bracket) for rung, bracket in sorted(self.tables, reverse=True) if self.compares(rung, bracket)
        ]
        for key in tables:
            table = self.tables[key]
            for trial in table.not_promoted(among=len(table) // self.settings.reduction_factor):
                if trial.state == PAUSED or trial is beside:
                    return trial
        return self._best_of_highest(tables) if closing else None

    def _best_of_highest(self, tables: Sequence[tuple[int, int]]) -> Trial | None:
        """The best of the highest rung if none was promoted: as in successive halving, one at least gets to its end."""
        for key in tables:
            table = self.tables[key]
            if any(trial.name in table.promoted and trial.status != LOST for _, _, trial in table.entries):
                return None
            for trial in table.not_promoted(among=len(table)):
                if trial.state == PAUSED:
                    return trial
        return None

    def compares(self, rung: int, bracket: int) -> bool:
        return bracket <= self.milestones.index(rung)


class Hyperband(Asha):
    """Brackets that begin at each of the rungs, and a last one without rungs: ASHA within each.

    Li et al. 2018, "Hyperband", section 3: with ``smax`` rungs, of every Σ nₛ trials nₛ = ⌈(smax + 1)/(s + 1)·ηˢ⌉ are
    compared at ``s`` rungs, so that each bracket spends about as much.
    """

    def __init__(self, settings: SearchConfig, milestones: Sequence[int], budget_tokens: int) -> None:
        super().__init__(settings, milestones, budget_tokens)
        most = len(self.milestones)
        factor = settings.reduction_factor
        # bracket b skips the b lowest rungs: s = most - b are left
        sizes = [-(-(most + 1) * factor**s // (s + 1)) for s in range(most, -1, -1)]
        self.cycle = interleaved(sizes)

    def bracket(self, trial: Trial) -> int:
        return self.cycle[(trial.number - 1) % len(self.cycle)]


def interleaved(sizes: Sequence[int]) -> list[int]:
    """Each index as often as ``sizes`` says, spread evenly, so that the first trials come from all brackets."""
    result: list[int] = []
    counts = [0] * len(sizes)
    for _ in range(sum(sizes)):
        index = min(range(len(sizes)), key=lambda i: ((counts[i] + 1) / sizes[i], i))
        counts[index] += 1
        result.append(index)
    return result

"""The interface of schedulers, and the scheduler of ``search.scheduler: none``: every trial runs to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import SearchConfig
from pipeline.search.rungs import Rung
from pipeline.search.space import Space
from pipeline.search.standing import Standing, Trial


@dataclass(frozen=True)
class Decision:
    """What becomes of a trial that reports at a rung."""

    kind: str  # continue, pause, stop
    reason: str = ""  # of a stop, in words
    # written with the report, before the record of the decision itself
    records: tuple[Mapping[str, Any], ...] = field(default=())


CONTINUE, PAUSE, STOP = Decision("continue"), Decision("pause"), Decision("stop")


class Scheduler:
    """Lets every trial run to its end; the base of those that do not.

    ``milestones`` are the rungs in tokens, rising; each trial validates there, in addition to its own cadence.
    """

    promotes = False  # whether continuing at a rung counts as a promotion, which is recorded

    def __init__(self, settings: SearchConfig, milestones: Sequence[int], budget_tokens: int) -> None:
        self.settings = settings
        self.milestones = list(milestones)
        self.budget_tokens = budget_tokens

    def apply(self, record: Mapping[str, Any], trial: Trial) -> None:
        """Take in a ``record`` of the journal, which ``trial`` has taken in already."""

    def at_rung(self, trial: Trial, rung: int) -> Decision:
        """What becomes of ``trial``, whose report at ``rung`` was just applied."""
        return CONTINUE

    def promotion(self, *, closing: bool = False) -> Trial | None:
        """The paused trial that is to continue now, if there is one.

        Args:
            closing: nothing runs and nothing more will be drawn. Promotions then bring the best to its end.
        """
        return None

    def generation(
        self, standing: Standing, space: Space, why_not: Callable[[Mapping[str, Any]], str]
    ) -> Mapping[str, Any] | None:
        """The record of what becomes of all paused trials, now that nothing runs and nothing is left to draw."""
        return None

    def next_milestone(self, tokens: int) -> int:
        """Where a trial that has trained on ``tokens`` is compared next; after the last rung, its budget."""
        return next((rung for rung in self.milestones if rung > tokens), self.budget_tokens)


class RungScheduler(Scheduler):
    """A scheduler with a table for each rung (of each bracket, if there are several)."""

    def __init__(self, settings: SearchConfig, milestones: Sequence[int], budget_tokens: int) -> None:
        super().__init__(settings, milestones, budget_tokens)
        self.tables: dict[tuple[int, int], Rung] = {}  # (rung in tokens, bracket)

    def bracket(self, trial: Trial) -> int:
        return 0

    def table(self, rung: int, bracket: int = 0) -> Rung:
        return self.tables.setdefault((rung, bracket), Rung())

    def apply(self, record: Mapping[str, Any], trial: Trial) -> None:
        if trial.confirms is not None:
            return
        if record["kind"] == "report" and record["rung"]:
            self.table(record["rung"], self.bracket(trial)).add(trial, self.value(trial))
        elif record["kind"] == "promote":
            self.table(record["rung"], self.bracket(trial)).promoted.add(trial.name)

    def value(self, trial: Trial) -> float:
        """What ``trial`` is compared by at the rung that it has just reported at."""
        return trial.best_loss

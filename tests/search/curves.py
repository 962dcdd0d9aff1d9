"""A driver that feeds a search's engine with made-up curves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pipeline.config import SearchConfig
from pipeline.search.actions import End, Run, Wait
from pipeline.search.candidates import Candidates
from pipeline.search.domains import Domain
from pipeline.search.engine import Engine
from pipeline.search.schedulers import CONTINUE
from pipeline.search.space import Space
from pipeline.search.standing import Standing
from pipeline.training.monitor import Record

SPACE = Space({"optimizer.lr": Domain("uniform", [0.0, 1.0])})
BUDGET = 900


def settings_of(**changes: Any) -> SearchConfig:
    return SearchConfig(
        **{"algorithm": "random", "num_trials": 9, "grace_tokens": 100, "reduction_factor": 3, **changes}
    )


class Curves:
    """A driver of one engine: its trials have the loss ``loss(number, tokens)``, and ``at_once`` run in turns."""

    def __init__(
        self, settings: SearchConfig, loss: Callable[[int, int], float], *, at_once: int = 1, every: int = 100
    ) -> None:
        self.settings, self.loss, self.at_once, self.every = settings, loss, at_once, every
        self.records: list[Record] = [{"kind": "search", "format": 2}]
        self.time = 0.0
        self.engine = self.new_engine()

    def new_engine(self, **how: Any) -> Engine:
        return Engine(
            self.settings, SPACE, BUDGET, records=list(self.records), write=self.write, candidates=Candidates(),
            clock=lambda: self.time, **how,
        )  # fmt: skip

    def write(self, *records: Record) -> None:
        self.records.extend({"time": self.time, **record} for record in records)

    def run(self, *, until: Callable[[], bool] = lambda: False) -> str:
        """Run until the search ends; return the reason that it states."""
        running: dict[str, int] = {}
        while not until():
            action = self.engine.next_action(self.at_once - len(running))
            if isinstance(action, Run):
                if action.trial.tokens >= BUDGET:  # it was cut off between its last report and its end
                    self.engine.ended(action.trial.name, "done")
                else:
                    running[action.trial.name] = action.trial.tokens
                continue
            if isinstance(action, End):
                return action.reason
            assert isinstance(action, Wait)
            name = min(running, key=lambda name: (running[name], name))
            running[name] += self.every
            self.time += 1.0
            tokens, number = running[name], self.engine.standing.trials[name].number
            loss = self.loss(number, tokens)
            perplexity = math.exp(loss) if loss < 100 else math.inf
            decision = self.engine.report(name, tokens=tokens, loss=loss, perplexity=perplexity, seconds=1.0)
            if decision != CONTINUE:
                del running[name]
            elif tokens >= BUDGET:
                self.engine.ended(name, "done")
                del running[name]
        return "stopped"

    def kinds(self, *kinds: str) -> list[tuple[str, int, Any]]:
        """(kind, number, rung) of the records of these kinds."""
        trials = self.engine.standing.trials
        return [(r["kind"], trials[r["trial"]].number, r.get("rung")) for r in self.records if r["kind"] in kinds]


def statuses(standing: Standing) -> dict[int, str]:
    return {trial.number: trial.status for trial in standing.drawn}

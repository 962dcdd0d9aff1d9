"""Drives the engine of a comparison with made-up losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pipeline.compare.plan import Comparison
from pipeline.compare.planned import Planned
from pipeline.compare.variants import check_comparison
from pipeline.config import Config
from pipeline.search.actions import End, Run, Wait
from pipeline.search.engine import Engine
from pipeline.search.space import Space
from pipeline.search.standing import LOST, Standing
from pipeline.training.monitor import Record

VALUES = {
    "compare.variants": {"lstm": {"model.cell": "lstm"}, "gru": {"model.cell": "gru"}},
    "compare.seeds": [1, 2], "compare.tokens": [1_000, 3_000], "compare.parameters": [5_000, 20_000],
}  # fmt: skip
SEARCH = {"num_trials": 3, "optimizer.lr": {"loguniform": [1e-3, 1e-1]}}


def comparison_of(config: Config) -> Comparison:
    variants, search = check_comparison(config)
    return Comparison.of(config, variants, search, vocab_size=30, tokens=9_999)


class Driver:
    """Carries out what the engine says, with up to ``at_once`` runs in progress; each ends in one go."""

    def __init__(self, config: Config, loss: Callable[[dict[str, Any]], float], *, at_once: int = 1) -> None:
        self.comparison, self.settings, self.loss, self.at_once = comparison_of(config), config, loss, at_once
        self.records: list[Record] = [{"kind": "search", "format": 2}]

    def run(self, *, most: int = 1_000) -> list[Record]:
        """Run up to ``most`` runs in one sitting; return their starts."""
        engine = Engine(
            self.comparison.as_search(self.settings), Space({}), 3_000, records=list(self.records),
            write=lambda *records: self.records.extend(map(dict, records)), candidates=Planned(self.comparison),
            clock=lambda: 0.0,
        )  # fmt: skip
        running: list[Any] = []
        starts = []
        while True:
            action = engine.next_action(self.at_once - len(running))
            if isinstance(action, Run) and len(starts) < most:
                starts.append({"settings": action.trial.settings, "origin": action.trial.origin})
                running.append(action.trial)
                continue
            if isinstance(action, End) or not running:
                return starts
            assert isinstance(action, (Wait, Run))
            trial = running.pop()  # the last that began ends first
            loss = self.loss(trial.settings)
            if math.isfinite(loss):
                tokens = trial.settings["train.max_tokens"]
                engine.report(trial.name, tokens=tokens, loss=loss, perplexity=math.exp(loss), seconds=1.0)
                engine.ended(trial.name, "done")
            else:
                engine.ended(trial.name, LOST, "the loss was not finite")

    @property
    def standing(self) -> Standing:
        return Standing.of(self.records)

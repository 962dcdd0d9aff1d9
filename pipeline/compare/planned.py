"""The runs of a comparison in the order in which its engine begins them, and which of those begun are not needed."""

from __future__ import annotations

from pipeline.compare.plan import COMPARED, Comparison, by_settings
from pipeline.search.candidates import Candidates, Drawn, as_key
from pipeline.search.standing import Standing, Trial


class Planned(Candidates):
    """Gives the engine of a comparison its next run: the first that can begin and has not."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self.comparison = comparison

    def needless(self, trial: Trial, standing: Standing) -> str:
        """Why a run whose variant has moved on to other settings, because a run diverged with these, can stop."""
        if trial.origin != COMPARED:
            return ""
        plan, trials, key = self.comparison, by_settings(standing), as_key(trial.settings)
        tokens, seed = trial.settings["train.max_tokens"], trial.settings["train.seed"]
        for one in plan.sizes:
            for draw in plan.ranked(one, standing):
                is_its = as_key(plan.compared(one, draw, tokens=tokens, seed=seed)) == key
                if is_its and plan.has_diverged(one, draw, trials) and draw not in plan.finals(one, standing):
                    return "another run with these settings diverged"
        return ""

    def draw(self, standing: Standing) -> Drawn | None:
        begun = by_settings(standing)
        for settings, origin in self.comparison.ready(standing):
            if as_key(settings) not in begun:
                # above all others, also if the lines of some were taken out of the journal
                return Drawn(1 + max((trial.number for trial in standing.drawn), default=0), settings, origin)
        return None
